//! Requests to a daemon.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

use crate::cli::Server;
use crate::exit::{Exit, Failure};

/// Where the daemon is, unless something is said.
const HERE: &str = "http://127.0.0.1:8736";
/// The variable that says where it is.
const SERVER: &str = "TREM_SERVER";
/// The variable with the token.
const TOKEN: &str = "TREM_TOKEN";
/// How long an answer may take: the daemon gives up before.
const PATIENCE: Duration = Duration::from_secs(150);

/// A daemon.
pub struct Client {
    agent: ureq::Agent,
    server: String,
    token: Option<String>,
}

impl Client {
    /// The daemon that arguments or variables name.
    pub fn new(args: &Server) -> Result<Self, Failure> {
        let server = args.server.clone().or_else(|| std::env::var(SERVER).ok()).unwrap_or_else(|| HERE.to_owned());
        let server = server.trim_end_matches('/').to_owned();
        if !server.starts_with("http://") && !server.starts_with("https://") {
            return Err(Failure::Usage(format!("--server: {server:?} does not begin with http:// or https://")));
        }
        let token = match &args.token_file {
            Some(file) => Some(
                std::fs::read_to_string(file)
                    .map(|text| text.trim().to_owned())
                    .map_err(|e| Failure::Usage(format!("--token-file: {} cannot be read: {e}", file.display())))?,
            ),
            None => std::env::var(TOKEN).ok(),
        };
        let mut config = ureq::Agent::config_builder().http_status_as_error(false);
        if server.starts_with("https://") {
            let tls = TlsConfig::builder().root_certs(roots(args.ca_file.as_deref())?);
            config = config.tls_config(tls.build());
        }
        Ok(Self { agent: config.build().new_agent(), server, token })
    }

    /// What the daemon answers below `/api/v1`.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask("GET", path, None)
    }

    /// Tells the daemon to do something.
    pub fn post(&self, path: &str) -> Result<Value, Failure> {
        self.ask("POST", path, None)
    }

    /// Any request; the answer, which is null where there is no body.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let mut answer = self.send(method, path, body, Some(PATIENCE))?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().read_to_string().map_err(|e| self.unreached(&e))?;
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status < 400 { Ok(json) } else { Err(refused(status, &json)) }
    }

    /// Events from now on, one JSON text each, until `each` has seen enough.
    pub fn events(&self, path: &str, each: &mut dyn FnMut(&str) -> bool) -> Result<(), Failure> {
        let mut answer = self.send("GET", path, None, None)?;
        let status = answer.status().as_u16();
        if status >= 400 {
            let text = answer.body_mut().read_to_string().unwrap_or_default();
            return Err(refused(status, &serde_json::from_str(&text).unwrap_or(Value::Null)));
        }
        for line in BufReader::new(answer.into_body().into_reader()).lines() {
            let line = line.map_err(|e| Failure::System(format!("{}: the stream has ended: {e}", self.server)))?;
            if let Some(data) = line.strip_prefix("data: ")
                && !each(data)
            {
                return Ok(());
            }
        }
        Ok(())
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        patience: Option<Duration>,
    ) -> Result<ureq::http::Response<ureq::Body>, Failure> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}/api/v1{path}", self.server));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let wrong =
            |e: ureq::http::Error| Failure::Usage(format!("the request to {} cannot be made: {e}", self.server));
        let sent = match body {
            Some(body) => {
                let request =
                    request.header("Content-Type", "application/json").body(body.to_string()).map_err(wrong)?;
                self.agent.run(self.agent.configure_request(request).timeout_global(patience).build())
            }
            None => {
                let request = request.body(()).map_err(wrong)?;
                self.agent.run(self.agent.configure_request(request).timeout_global(patience).build())
            }
        };
        sent.map_err(|e| self.unreached(&e))
    }

    fn unreached(&self, error: &ureq::Error) -> Failure {
        let server = &self.server;
        Failure::System(format!(
            "no answer from {server}: {error}: start the daemon with `trem serve`, or say where it is with --server"
        ))
    }
}

/// A segment of a path.
pub fn segment(text: &str) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => (b as char).to_string(),
        b => format!("%{b:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// Whom to believe: the file's authorities, or those of the machine.
fn roots(file: Option<&Path>) -> Result<RootCerts, Failure> {
    let Some(file) = file else {
        let found = rustls_native_certs::load_native_certs().certs;
        let certificates: Vec<Certificate<'static>> =
            found.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned()).collect();
        return Ok(RootCerts::new_with_certs(&certificates));
    };
    let wrong = |e: &dyn std::fmt::Display| Failure::Usage(format!("--ca-file: {}: {e}", file.display()));
    let text = std::fs::read(file).map_err(|e| wrong(&e))?;
    let mut certificates = Vec::new();
    for item in ureq::tls::parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| wrong(&e))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(wrong(&"it holds no certificate"));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}

/// What a refusal says, and how a command ends with it.
fn refused(status: u16, problem: &Value) -> Failure {
    let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
    let mut said = match text("detail").as_str() {
        "" => format!("the daemon answered with HTTP status {status}"),
        detail => detail.to_owned(),
    };
    for place in problem["errors"].as_array().into_iter().flatten() {
        let (at, what) = (place["pointer"].as_str().unwrap_or_default(), place["detail"].as_str().unwrap_or_default());
        said.push_str(&format!("\n  {}{what}", if at.is_empty() { String::new() } else { format!("{at}: ") }));
    }
    let remedy = text("remedy");
    if !remedy.is_empty() && problem["errors"].is_null() {
        said.push_str(&format!(" (remedy: {remedy})"));
    }
    let exit = if matches!(status, 400 | 401 | 403 | 422) { Exit::Misused } else { Exit::Failed };
    Failure::Daemon(said, exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_escaped() {
        assert_eq!(segment("public.t"), "public.t");
        assert_eq!(segment("a/b c?ü"), "a%2Fb%20c%3F%C3%BC");
    }
}
