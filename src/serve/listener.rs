//! A bound socket.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel holds for us until they are accepted.
const BACKLOG: u32 = 1024;

/// A socket that is bound and listens; its connections wait in the kernel until [`super::serve`] accepts them.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: TcpListener,
    /// Where it listens, with the port that it was given.
    pub address: SocketAddr,
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("address {address} is in use; choose another with {setting}")]
    InUse {
        /// The address.
        address: SocketAddr,
        /// The setting or flag that the address came from.
        setting: &'static str,
    },
    /// Anything else.
    #[error("address {address} of {setting} cannot be listened on")]
    Other {
        /// The address.
        address: SocketAddr,
        /// The setting or flag that the address came from.
        setting: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Listener {
    /// Listens on the address; port 0 takes a free one. `setting` names where the address came from, for the error
    /// (`http.listen`, `--port`). Needs a tokio runtime around it.
    pub fn bind(address: SocketAddr, setting: &'static str) -> Result<Listener, BindError> {
        let bind = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            // A restarted proxy takes its port back at once, although connections of the old one still linger.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let socket = socket.listen(BACKLOG)?;
            let address = socket.local_addr()?;
            Ok(Listener { socket, address })
        };
        bind().map_err(|source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { address, setting },
            _ => BindError::Other { address, setting, source },
        })
    }
}
