//! A certificate authority and a server certificate for 127.0.0.1, made by the openssl program.

use std::path::Path;
use std::process::{Command, Stdio};

/// Writes `ca.crt`, `other-ca.crt` (which signed nothing), `server.crt` and `server.key` into `dir`.
pub fn make_certificates(dir: &Path) {
    let authority = |name: &str| {
        let (key, crt) = (format!("{name}.key"), format!("{name}.crt"));
        let subject = format!("/CN=trem tests {name}");
        let mut args = vec!["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        args.extend(["-days", "2", "-subj", &subject, "-keyout", &key, "-out", &crt]);
        openssl(dir, &args);
    };
    authority("ca");
    authority("other-ca");
    let mut args = vec!["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    args.extend(["-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr"]);
    openssl(dir, &args);
    let extensions = "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n";
    std::fs::write(dir.join("server.ext"), extensions).expect("server.ext");
    let mut args = vec!["x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"];
    args.extend(["-days", "2", "-extfile", "server.ext", "-out", "server.crt"]);
    openssl(dir, &args);
}

fn openssl(dir: &Path, args: &[&str]) {
    let out = Command::new("openssl").args(args).current_dir(dir).stdin(Stdio::null()).output();
    let out = out.expect("openssl starts: `make setup` installs it");
    assert!(out.status.success(), "openssl {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr));
}
