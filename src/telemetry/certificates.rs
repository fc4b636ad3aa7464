//! When certificates end.
//!
//! In: PEM files that listeners and clients use. Out: for each the moment at which its first certificate ends. Never: judges a
//! chain, or fails: what a file is worth is said by those who use it.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use crate::config::{ClientTls, Config, ControlConfig, Tls};

/// When the certificates of a file end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// What it is for: `listener`, `client` or `authority`.
    pub role: &'static str,
    /// Of which listener, cluster, registry or control plane.
    pub name: String,
    /// The soonest end, since 1970.
    pub ends: Duration,
}

/// The files of a proxy.
pub fn of_proxy(config: &Config) -> Vec<Expiry> {
    let mut found = Found::default();
    if let Some(tls) = &config.http.tls {
        found.listener("http", tls);
    }
    for cluster in &config.clusters {
        found.client(&cluster.name, cluster.tls.as_ref());
    }
    for registry in &config.registries {
        found.add("authority", &registry.name, registry.ca_file.as_deref());
    }
    found.add("authority", "control", config.routes.as_ref().and_then(|routes| routes.ca_file.as_deref()));
    found.0
}

/// The files of a node of the management plane.
pub fn of_control(config: &ControlConfig) -> Vec<Expiry> {
    let mut found = Found::default();
    if let Some(tls) = &config.control.tls {
        found.listener("control", tls);
    }
    for cluster in &config.clusters {
        found.client(&cluster.name, cluster.tls.as_ref());
    }
    found.0
}

#[derive(Default)]
struct Found(Vec<Expiry>);

impl Found {
    fn listener(&mut self, name: &str, tls: &Tls) {
        self.add("listener", name, Some(&tls.certificate_file));
        self.add("authority", name, tls.client_ca_file.as_deref());
    }

    fn client(&mut self, name: &str, tls: Option<&ClientTls>) {
        self.add("client", name, tls.and_then(|tls| tls.certificate_file.as_deref()));
        self.add("authority", name, tls.and_then(|tls| tls.ca_file.as_deref()));
    }

    /// What cannot be read is left out. Of a name that is there twice, as that of a cluster and of its registry may be, the
    /// sooner end counts.
    fn add(&mut self, role: &'static str, name: &str, file: Option<&Path>) {
        let Some(ends) = file.and_then(|file| first_end(CertificateDer::pem_file_iter(file).ok()?.flatten())) else {
            return;
        };
        match self.0.iter_mut().find(|known| (known.role, known.name.as_str()) == (role, name)) {
            Some(known) => known.ends = known.ends.min(ends),
            None => self.0.push(Expiry { role, name: name.to_owned(), ends }),
        }
    }
}

/// The soonest end of these certificates; those that cannot be read are passed over.
fn first_end<'c>(certificates: impl Iterator<Item = CertificateDer<'c>>) -> Option<Duration> {
    let end = |certificate: CertificateDer<'_>| {
        let certificate = Certificate::from_der(&certificate).ok()?;
        Some(certificate.tbs_certificate().validity().not_after.to_unix_duration())
    };
    certificates.filter_map(end).min()
}
