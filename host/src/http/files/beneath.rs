//! Opens files beneath a directory, and no others.
//!
//! The kernel confines the lookup (openat2 with RESOLVE_BENEATH, Linux 5.6): symbolic links are followed if they stay
//! inside, without races. If the kernel lacks the call, or a sandbox forbids it, the path is walked segment by segment
//! and no symbolic link is followed.
//!
//! Opening never blocks: a FIFO without a writer is opened at once, and the caller checks the file type.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// Attempts at a lookup that the kernel gave up because of a concurrent rename.
const TRIES: usize = 8;

/// Opens `path`, which has no `..` and no leading slash, beneath the directory `root`, for reading.
pub(super) fn open_beneath(root: &Path, path: &str) -> io::Result<File> {
    let root = openat(CWD, root, DIRECTORY, Mode::empty())?;
    let mut opened = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        opened = openat2(&root, path, READ, Mode::empty(), resolve);
        if !matches!(opened, Err(Errno::AGAIN)) {
            break;
        }
    }
    match opened {
        Err(Errno::NOSYS | Errno::PERM) => walk(root, path),
        opened => Ok(opened?.into()),
    }
}

/// Opens as [`open_beneath`] does, a segment at a time, without following symbolic links.
fn walk(root: OwnedFd, path: &str) -> io::Result<File> {
    let (dirs, last) = path.rsplit_once('/').map_or((None, path), |(dirs, last)| (Some(dirs), last));
    let mut dir = root;
    for segment in dirs.into_iter().flat_map(|dirs| dirs.split('/')) {
        dir = openat(&dir, segment, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    }
    Ok(openat(&dir, last, READ | OFlags::NOFOLLOW, Mode::empty())?.into())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory beside a secret, removed on drop.
    struct Root(std::path::PathBuf);

    impl Root {
        fn new(name: &str) -> Root {
            let base = std::env::temp_dir().join(format!("remuxd-beneath-{}-{name}", std::process::id()));
            let root = base.join("root");
            std::fs::create_dir_all(root.join("dir")).unwrap();
            std::fs::write(base.join("secret"), "secret").unwrap();
            std::fs::write(root.join("dir/file"), "inside").unwrap();
            symlink("../secret", root.join("up")).unwrap();
            symlink(base.join("secret"), root.join("absolute")).unwrap();
            symlink("..", root.join("parent")).unwrap();
            symlink("dir", root.join("alias")).unwrap();
            symlink("loop", root.join("loop")).unwrap();
            symlink("/proc/self/root", root.join("magic")).unwrap();
            Root(base)
        }

        fn dir(&self) -> std::path::PathBuf {
            self.0.join("root")
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn text(file: io::Result<File>) -> Option<String> {
        let mut text = String::new();
        file.ok()?.read_to_string(&mut text).ok()?;
        Some(text)
    }

    #[test]
    fn leaves_the_directory_by_no_link() {
        let root = Root::new("kernel");
        assert_eq!(text(open_beneath(&root.dir(), "dir/file")).as_deref(), Some("inside"));
        assert_eq!(text(open_beneath(&root.dir(), "alias/file")).as_deref(), Some("inside"));
        for path in
            ["up", "absolute", "parent/secret", "loop", "magic/etc/hostname", "dir/../../secret", "none"]
        {
            assert!(open_beneath(&root.dir(), path).is_err(), "{path}");
        }
        assert!(open_beneath(&root.0.join("none"), "file").is_err());
    }

    #[test]
    fn follows_no_link_where_the_kernel_cannot_keep_inside() {
        let root = Root::new("walk");
        let open = |path: &str| walk(openat(CWD, root.dir(), DIRECTORY, Mode::empty()).unwrap(), path);
        assert_eq!(text(open("dir/file")).as_deref(), Some("inside"));
        for path in ["up", "absolute", "parent/secret", "alias/file", "loop", "magic/etc/hostname", "none"] {
            assert!(open(path).is_err(), "{path}");
        }
    }
}
