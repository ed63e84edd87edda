//! What every request goes through before a handler sees it: an id, a time limit, who calls by which name, and whose
//! token it is.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::access::unknown;
use super::problem::Problem;
use super::shared::Shared;
use crate::store::{Identity, Role};

/// How long a request may take. Looking at a thousand tables of a slow database takes a while.
const LONGEST: Duration = Duration::from_secs(120);
/// The header that a request's id is in.
const ID: &str = "x-request-id";

/// Gives each answer an id, which the log has too; a caller may bring its own.
pub async fn request_id(request: Request, next: Next) -> Response {
    let plain = |id: &&str| !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_graphic());
    let given = request.headers().get(ID).and_then(|id| id.to_str().ok()).filter(plain);
    let id = given.map_or_else(|| format!("{:016x}", rand::random::<u64>()), str::to_owned);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let began = Instant::now();
    let mut answer = next.run(request).await;
    let (status, took_ms) = (answer.status().as_u16(), began.elapsed().as_millis() as u64);
    tracing::debug!(%method, path, status, took_ms, request_id = id, "request");
    if let Ok(id) = HeaderValue::from_str(&id) {
        answer.headers_mut().insert(ID, id);
    }
    answer
}

/// Ends what takes too long. A stream is not ended by it: its answer has begun.
pub async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(LONGEST, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let detail = format!("the request took longer than {} s", LONGEST.as_secs());
            Problem::new(StatusCode::GATEWAY_TIMEOUT, "timeout", "It takes too long", detail)
                .remedy("see whether the databases answer: POST /api/v1/endpoints/NAME/test")
                .into_response()
        }
    }
}

/// Lets through who may come in.
pub async fn guard(
    State(api): State<Shared>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Err(problem) = called_rightly(&api.hosts, &request) {
        return problem.into_response();
    }
    match identity(&api, from.ip(), &request) {
        Ok(Some(identity)) => drop(request.extensions_mut().insert(identity)),
        Ok(None) => {}
        Err(problem) => return problem.into_response(),
    }
    next.run(request).await
}

/// A page on another site can have a browser send requests here: it calls by a name of its own, or says its origin.
fn called_rightly(hosts: &[String], request: &Request) -> Result<(), Problem> {
    let refused = |detail: String| {
        Err(Problem::new(StatusCode::FORBIDDEN, "wrong-host", "The daemon is not called so", detail)
            .remedy("call it by the address it listens on, or name the host with `--allow-host`"))
    };
    let header = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let host = header(header::HOST).or_else(|| request.uri().authority().map(|a| a.as_str())).unwrap_or_default();
    let name = without_port(host);
    if !hosts.is_empty() && !hosts.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return refused("the Host header has a name that is not this daemon's".to_owned());
    }
    match header(header::ORIGIN) {
        Some(origin) if origin.split_once("://").is_none_or(|(_, from)| !from.eq_ignore_ascii_case(host)) => {
            refused("the request comes from a page of another site".to_owned())
        }
        _ => Ok(()),
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Whose token it is. What needs none is answered without.
fn identity(api: &Shared, from: IpAddr, request: &Request) -> Result<Option<Identity>, Problem> {
    if api.open {
        return Ok(Some(Identity { name: "anybody".to_owned(), role: Role::Admin }));
    }
    let sent = request.headers().get(header::AUTHORIZATION).filter(|sent| !sent.is_empty());
    let Some(sent) = sent else { return Ok(None) };
    let token = sent.to_str().ok().and_then(|text| text.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    let known = token.map(|token| api.fleet.store().identity(token)).transpose()?.flatten();
    if known.is_none() {
        // A token that is known is let through all the same: nobody can guess one, and somebody else at the same
        // address must not lock its owner out.
        if api.failures.is_one_too_many(from) {
            let detail = "too many wrong tokens came from this address";
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-failures", "Wait a minute", detail)
                .remedy("wait a minute, and send the right token"));
        }
        tracing::warn!(%from, "a request came with a wrong token");
        return Err(unknown("the token is none that is known, or has been revoked"));
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_taken_off() {
        for (host, name) in [
            ("localhost:8736", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(without_port(host), name);
        }
    }
}
