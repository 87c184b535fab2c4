//! Whom https trusts: the certificates that the system has.

use std::sync::Arc;

use coracle_host::Kind;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

use crate::{Error, Result};

/// Where distributions keep them in one file: Debian and Alpine, Fedora and RHEL, openSUSE, others.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// # Errors
/// `NotFound` where the system has none.
pub(crate) fn config() -> Result<TlsConfig> {
    let found = BUNDLES.iter().find_map(|path| std::fs::read(path).ok());
    let bundle = found.ok_or_else(|| {
        let what = format!(
            "https needs the certificates that the system trusts, and has none at {}",
            BUNDLES.join(", ")
        );
        Error::new(Kind::NotFound, what)
    })?;
    let certificates: Vec<_> = parse_pem(&bundle)
        .filter_map(|item| if let Ok(PemItem::Certificate(one)) = item { Some(one) } else { None })
        .collect();
    Ok(TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(certificates))).build())
}
