//! The control socket: a Unix socket on which the commands of `remuxd` reach the running host over HTTP/1.1.
//!
//! Its path is derived from the user and the path of the config file, so that a command finds the host that runs with the
//! same file, whatever the environment of either. It lies in a directory that only the host's user can write to: in /tmp
//! itself, anybody could listen at the path first. Only the host's own user and root may connect: the file's mode ensures
//! it, and so does a check of each peer's credentials. A host replaces the socket of a dead host, never that of a live one.
//!
//! A killed host leaves its socket behind, and if each host has its own config file, as in tests, no other host replaces
//! it. So each host removes the dead sockets of its user when it starts.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;
use sha2::{Digest, Sha256};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream};
use tracing::{info, warn};

use crate::conf::Config;
use crate::module::CrashNotes;

/// Minimum age of a dead socket: the host of a younger one may be about to listen.
const MIN_AGE: Duration = Duration::from_secs(10);

/// Extension of files with crash notes.
const NOTES: &str = "calls";
/// Age after which the crash notes of a host that did not start again are removed.
const NOTES_AGE: Duration = Duration::from_secs(24 * 3600);

/// The directory of the sockets of root, and of a user whom systemd gave it to (`RuntimeDirectory=remuxd`).
const RUNTIME_DIR: &str = "/run/remuxd";

/// An error that prevents the control socket from opening. Culprit: operator or machine.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another host listens at the path.
    #[error("{}: another host listens here", path.display())]
    Taken {
        /// The path.
        path: PathBuf,
    },
    /// Others could replace the socket in this directory.
    #[error("{}: not a directory that only this user can write to", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
    },
    /// It cannot be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The control socket of this host. Removes the file on drop.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    listener: UnixListener,
}

/// Returns the path of the control socket of the host that runs with `file`.
pub fn socket_path(file: &Path, config: &Config) -> PathBuf {
    if let Some(path) = &config.admin.socket {
        return path.clone();
    }
    // A file that no longer exists has no canonical path; use the name as given.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let digest = Sha256::digest(file.as_os_str().as_encoded_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    socket_dir().join(format!("remuxd-{name}.sock"))
}

/// Returns the path of the crash notes of the host that runs with `file`, whose directory it creates; `None` if others could
/// write there.
pub fn notes_path(file: &Path) -> Option<PathBuf> {
    let path = socket_path(file, &Config::default()).with_extension(NOTES);
    make_dir(path.parent()?).ok()?;
    Some(path)
}

/// Returns the directory of sockets whose path the config does not set. It depends on the user alone.
fn socket_dir() -> PathBuf {
    let user = geteuid();
    let owns = |dir: &str| fs::symlink_metadata(dir).is_ok_and(|dir| dir.uid() == user.as_raw());
    if user.is_root() || owns(RUNTIME_DIR) {
        RUNTIME_DIR.into()
    } else {
        format!("/tmp/remuxd-{}", user.as_raw()).into()
    }
}

/// Creates the directory of sockets unless it exists.
fn make_dir(dir: &Path) -> Result<(), ControlError> {
    let fail = |source| ControlError::Open { path: dir.to_owned(), source };
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => return made.map_err(fail),
    }
    let owner = sole_writer(&fs::symlink_metadata(dir).map_err(fail)?);
    if owner == Some(geteuid().as_raw()) {
        Ok(())
    } else {
        Err(ControlError::Directory { dir: dir.to_owned() })
    }
}

/// Returns the owner of a directory that nobody else but root can write to.
fn sole_writer(metadata: &fs::Metadata) -> Option<u32> {
    (metadata.is_dir() && metadata.mode() & 0o022 == 0).then(|| metadata.uid())
}

/// Connects to a host's control socket, for a command.
///
/// # Errors
/// Nobody listens at `path`, or a process of a user who is not trusted: other than root, this user and the owner of the
/// socket's directory.
pub(super) fn connect(path: &Path) -> io::Result<std::os::unix::net::UnixStream> {
    let stream = std::os::unix::net::UnixStream::connect(path)?;
    let server = socket_peercred(&stream)?.uid;
    let dir = path.parent().and_then(|dir| fs::symlink_metadata(dir).ok());
    let owner = dir.and_then(|dir| sole_writer(&dir));
    if server.is_root() || server == geteuid() || owner == Some(server.as_raw()) {
        return Ok(stream);
    }
    let message = format!("a process of user {} listens here, who is not trusted", server.as_raw());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

/// Returns whether [`socket_path`] makes such names.
fn is_socket_name(name: &str) -> bool {
    let digits = name.strip_prefix("remuxd-").and_then(|rest| rest.strip_suffix(".sock"));
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    digits.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(digit))
}

/// Removes the control sockets of this user's dead hosts, and crash notes that no host has read for a day. Blocks: reads a
/// directory.
pub fn remove_dead_sockets() {
    let count = remove_dead(&socket_dir(), MIN_AGE);
    if count > 0 {
        info!(count, "removed control sockets of dead hosts");
    }
    let entries = fs::read_dir(socket_dir()).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_old = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == NOTES)
            && fs::symlink_metadata(path).is_ok_and(|metadata| is_older(&metadata, NOTES_AGE))
    };
    entries.filter(is_old).for_each(|path| CrashNotes::remove_unused(&path));
}

/// Whether a file was last modified at least `age` ago.
fn is_older(metadata: &fs::Metadata, age: Duration) -> bool {
    metadata.modified().is_ok_and(|time| time.elapsed().is_ok_and(|elapsed| elapsed >= age))
}

/// Removes sockets in `dir` of at least `min_age` that no process listens on. Returns their number.
fn remove_dead(dir: &Path, min_age: Duration) -> usize {
    let is_dead = |path: &Path| {
        // The entry's own metadata: links are not followed.
        fs::symlink_metadata(path).is_ok_and(|metadata| {
            metadata.file_type().is_socket()
                && metadata.uid() == geteuid().as_raw()
                && is_older(&metadata, min_age)
        }) && try_connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_socket_name));
    named.map(|entry| entry.path()).filter(|path| is_dead(path) && fs::remove_file(path).is_ok()).count()
}

/// Connects to the socket to find out whether a process listens on it. Does not wait for a host that hangs.
fn try_connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        // The host's backlog is full.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        result => result,
    }
}

impl Control {
    /// Opens the socket.
    ///
    /// # Errors
    /// Another host listens at the path, or the socket cannot be opened.
    pub fn open(path: PathBuf) -> Result<Control, ControlError> {
        let fail = |source| ControlError::Open { path: path.clone(), source };
        if let Some(dir) = path.parent().filter(|dir| **dir == socket_dir()) {
            make_dir(dir)?;
        }
        let listener = match UnixListener::bind(&path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if try_connect(&path).is_ok() {
                    return Err(ControlError::Taken { path });
                }
                // Never remove another kind of file.
                if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
                    fs::remove_file(&path).map_err(fail)?;
                }
                UnixListener::bind(&path).map_err(fail)?
            }
            bound => bound.map_err(fail)?,
        };
        let control = Control { path: path.clone(), listener };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(fail)?;
        Ok(control)
    }

    /// Accepts the next peer that is allowed to connect.
    ///
    /// # Errors
    /// Accepting fails.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        loop {
            let (socket, _) = ready!(self.listener.poll_accept(cx))?;
            let peer = socket.peer_cred()?.uid();
            if peer == 0 || peer == geteuid().as_raw() {
                return Poll::Ready(Ok(socket));
            }
            warn!(uid = peer, "control connection of another user refused");
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // The next host replaces a socket that stays.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that no other test uses.
    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("remuxd-control-{}-{name}", std::process::id()))
    }

    #[tokio::test]
    async fn replaces_the_socket_of_a_dead_host_and_no_other() {
        let path = scratch("dead");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let control = Control::open(path.clone()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let second = Control::open(path.clone()).unwrap_err();
        assert!(matches!(second, ControlError::Taken { .. }), "{second}");
        drop(control);
        assert!(!path.exists());
        fs::write(&path, "not a socket").unwrap();
        Control::open(path.clone()).unwrap_err();
        assert!(path.exists());
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn others_must_not_be_able_to_write_to_the_directory() {
        let dir = scratch("dir");
        make_dir(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o777, 0o700);
        for (mode, is_safe) in [(0o700, true), (0o755, true), (0o770, false), (0o1777, false), (0o702, false)]
        {
            fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(make_dir(&dir).is_ok(), is_safe, "{mode:o}");
        }
        let link = scratch("link");
        std::os::unix::fs::symlink("/", &link).unwrap();
        make_dir(&link).unwrap_err();
        fs::remove_file(link).unwrap();
        fs::remove_dir(dir).unwrap();
    }

    #[test]
    fn removes_only_sockets_of_dead_hosts() {
        use std::os::unix::net::UnixListener;

        let dir = scratch("sweep");
        fs::create_dir(&dir).unwrap();
        let dead = |name: &str| drop(UnixListener::bind(dir.join(name)).unwrap());
        let (left, others) = ("remuxd-0123456789abcdef.sock", ["remuxd-0123456789abcde.sock", "x.sock"]);
        [left, "remuxd-aaaaaaaaaaaaaaaa.sock"].into_iter().chain(others).for_each(dead);
        let _living = UnixListener::bind(dir.join("remuxd-1111111111111111.sock")).unwrap();
        fs::write(dir.join("remuxd-2222222222222222.sock"), "no socket").unwrap();
        std::os::unix::fs::symlink(others[1], dir.join("remuxd-3333333333333333.sock")).unwrap();
        let names = || {
            let entries = fs::read_dir(&dir).unwrap();
            let mut names: Vec<_> =
                entries.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let before = names();
        assert_eq!((remove_dead(&dir, Duration::from_secs(3600)), names()), (0, before.clone()));
        assert_eq!(remove_dead(&dir, Duration::ZERO), 2);
        let is_left = |name: &String| *name != left && !name.contains("aaaa");
        assert_eq!(names(), before.into_iter().filter(is_left).collect::<Vec<_>>());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn derives_the_path_from_the_file() {
        let config = Config::default();
        let (one, other) =
            (socket_path(Path::new("/x/a.toml"), &config), socket_path(Path::new("/x/b.toml"), &config));
        assert_ne!(one, other);
        assert_eq!(one, socket_path(Path::new("/x/a.toml"), &config));
        assert!(one.as_os_str().len() < 100, "a socket's path is short");
        assert!(one.file_name().and_then(|name| name.to_str()).is_some_and(is_socket_name), "{one:?}");
        let named = Config::parse("[admin]\nsocket = \"/run/x.sock\"", "remuxd.toml").unwrap();
        assert_eq!(socket_path(Path::new("/x/a.toml"), &named), Path::new("/run/x.sock"));
    }
}
