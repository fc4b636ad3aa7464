//! Certificates of an authority of the test's own, made by the `openssl` command.

use std::path::Path;
use std::process::Command;

/// Makes an authority `ca.pem` unless the folder has one, a certificate `NAME.pem` of it with a name in it (`IP:127.0.0.1`,
/// `DNS:…`, `URI:…`), and the key `NAME.key`.
pub fn certify(folder: &Path, name: &str, alternative: &str) {
    const NEW: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    if !folder.join("ca.pem").exists() {
        openssl(folder, &format!("req -x509 {NEW} -days 2 -subj /CN=tests -keyout ca.key -out ca.pem"));
    }
    std::fs::write(folder.join("ext"), format!("subjectAltName={alternative}\nbasicConstraints=critical,CA:FALSE\n"))
        .expect("the folder is ours");
    openssl(folder, &format!("req {NEW} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
    let sign = format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -days 2 -extfile ext -out {name}.pem");
    openssl(folder, &sign);
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(folder.join(format!("{name}.key")), private).expect("the file is ours");
}

fn openssl(folder: &Path, line: &str) {
    let done = Command::new("openssl").args(line.split(' ')).current_dir(folder).output();
    let done = done.expect("the openssl command is installed");
    assert!(done.status.success(), "openssl {line}: {}", String::from_utf8_lossy(&done.stderr));
}
