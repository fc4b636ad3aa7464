//! A folder on this machine: `FOLDER/SERVICE/CLUSTER.USER.json`, which only its owner may read.

use std::path::PathBuf;

use serde_json::json;
use zeroize::Zeroizing;

use super::{Delivery, Put, Sink, SinkError};
use crate::control::private_file;

/// See the module.
#[derive(Debug)]
pub struct FileSink {
    folder: PathBuf,
}

impl FileSink {
    /// In this folder, which need not be there yet.
    pub fn new(folder: PathBuf) -> FileSink {
        FileSink { folder }
    }
}

impl Sink for FileSink {
    fn put<'a>(&'a self, delivery: Delivery<'a>) -> Put<'a> {
        Box::pin(async move {
            let Delivery { service, cluster, user, generation, mechanism, password } = delivery;
            // Names were checked when the resources were asked for; a folder above ours must not depend on that.
            if [service, cluster, user].iter().any(|name| name.contains(['/', '\\', '\0']) || *name == "..") {
                return Err(SinkError::for_good("a name would lead out of the folder"));
            }
            let folder = self.folder.join(service);
            let file = folder.join(format!("{cluster}.{user}.json"));
            let text = Zeroizing::new(
                json!({ "username": user, "password": password.expose(), "mechanism": mechanism, "generation": generation })
                    .to_string(),
            );
            let shown = file.display().to_string();
            let write = move || private_file::folder(&folder).and_then(|()| private_file::write(&file, &text));
            let written = tokio::task::spawn_blocking(write).await;
            match written {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(SinkError::for_now(format!("`{shown}` cannot be written: {error}"))),
                Err(_) => Err(SinkError::for_now(format!("`{shown}` was not written"))),
            }
        })
    }
}
