//! Stub.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::outcome::{Balance, Code, Ledger};
use crate::pipeline::Pipeline;

/// What is hung onto a proxy by `iguazu dev`.
pub struct Beside {
    /// Pages on the proxy's port.
    pub pages: Arc<crate::dev::pages::Pages>,
    /// Told of rejections.
    pub rejected: Arc<crate::dev::rejected::Rejected>,
}

/// Stub.
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct StartError;

/// Stub.
#[derive(Debug)]
pub struct Proxy;
impl Proxy {
    /// Stub.
    pub fn start(_config: Config, _beside: Option<Beside>) -> Result<Proxy, StartError> { let _ = Code::ALL; todo!() }
    /// Stub.
    pub fn http_addr(&self) -> SocketAddr { todo!() }
    /// Stub.
    pub fn admin_addr(&self) -> SocketAddr { todo!() }
    /// Stub.
    pub fn pipeline(&self) -> &Arc<Pipeline> { todo!() }
    /// Stub.
    pub fn ledger(&self) -> &Arc<Ledger> { todo!() }
    /// Stub.
    pub fn wait_ready(&self, _timeout: Duration) -> Result<(), Vec<String>> { todo!() }
    /// Stub.
    pub fn stop(self) -> Balance { todo!() }
}
