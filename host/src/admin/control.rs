//! The control socket: a Unix socket by which the commands of `remuxd` reach the running host.
//!
//! It speaks HTTP/1.1. Its path follows from the path of the config file, so that a command finds the host that runs with
//! the same file. Only the host's own user and root may connect: the file's mode says so, and each peer's credentials
//! are looked at. A socket that a dead host left is replaced, that of a living one is not.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, ready};

use rustix::process::geteuid;
use sha2::{Digest, Sha256};
use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

use crate::conf::Config;

/// Why there is no control socket. Culprit: operator, or the host's machine.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another host listens there.
    #[error("{}: another host listens there", path.display())]
    Taken {
        /// The path.
        path: PathBuf,
    },
    /// It cannot be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The control socket of this host. Removed on drop.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    listener: UnixListener,
}

/// Where the host that runs with `file` has its control socket.
pub fn socket_path(file: &Path, config: &Config) -> PathBuf {
    if let Some(path) = &config.admin.socket {
        return path.clone();
    }
    // A file that is gone has no canonical path; then its name as given has to do.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let digest = Sha256::digest(file.as_os_str().as_encoded_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    dir.map_or_else(std::env::temp_dir, PathBuf::from).join(format!("remuxd-{name}.sock"))
}

impl Control {
    /// Opens the socket.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn open(path: PathBuf) -> Result<Control, ControlError> {
        let fail = |source| ControlError::Open { path: path.clone(), source };
        let listener = match UnixListener::bind(&path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if BlockingStream::connect(&path).is_ok() {
                    return Err(ControlError::Taken { path });
                }
                // Nothing but a socket is ever removed.
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

    /// The next peer that may connect.
    ///
    /// # Errors
    /// What the system said.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        loop {
            let (socket, _) = ready!(self.listener.poll_accept(cx))?;
            let peer = socket.peer_cred()?.uid();
            if peer == 0 || peer == geteuid().as_raw() {
                return Poll::Ready(Ok(socket));
            }
            warn!(uid = peer, "another user at the control socket");
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // What stays is replaced by the next host.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that no other test has.
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
    fn the_path_follows_from_the_file() {
        let config = Config::default();
        let (one, other) =
            (socket_path(Path::new("/x/a.toml"), &config), socket_path(Path::new("/x/b.toml"), &config));
        assert_ne!(one, other);
        assert_eq!(one, socket_path(Path::new("/x/a.toml"), &config));
        assert!(one.as_os_str().len() < 100, "a socket's path is short");
        let named = Config::parse("[admin]\nsocket = \"/run/x.sock\"", "remuxd.toml").unwrap();
        assert_eq!(socket_path(Path::new("/x/a.toml"), &named), Path::new("/run/x.sock"));
    }
}
