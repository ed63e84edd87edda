//! `Idempotency-Key`: a POST that is sent again with the key that it had is answered as it was, and done once.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::problem::Problem;
use super::shared::Shared;
use crate::store::{Answer, Identity};

/// The header.
const KEY: &str = "idempotency-key";
/// Characters of a key.
const LONGEST: usize = 200;
/// Bytes of a body, asked or answered, that is kept.
const LARGEST: usize = 8 << 20;

/// Answers from what was answered, or does it and keeps the answer.
pub async fn again(State(api): State<Shared>, request: Request, next: Next) -> Response {
    let who = request.extensions().get::<Identity>().map(|identity| identity.name.clone());
    let key = request.headers().get(KEY).cloned();
    match (who, key) {
        (Some(who), Some(key)) if request.method() == Method::POST => {
            answer(&api, &who, &key, request, next).await.unwrap_or_else(Problem::into_response)
        }
        _ => next.run(request).await,
    }
}

async fn answer(api: &Shared, who: &str, key: &HeaderValue, request: Request, next: Next) -> Result<Response, Problem> {
    let key = key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= LONGEST);
    let key = key.ok_or_else(|| Problem::parameter("Idempotency-Key has 1 to 200 printable ASCII characters"))?;
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, LARGEST).await.map_err(|e| Problem::body(format!("the body cannot be read: {e}")))?;
    let mut hash = Sha256::new();
    hash.update(parts.uri.to_string());
    hash.update([0]);
    hash.update(&body);
    let asked = hash.finalize().to_vec();
    let Some(_turn) = api.under_way.turn(who, key) else {
        let detail = "a request with this Idempotency-Key is under way";
        return Err(Problem::new(StatusCode::CONFLICT, "conflict", "It cannot be done now", detail)
            .remedy("wait, and send it again: it is answered with what has come of it"));
    };
    if let Some(known) = api.fleet.store().answer(who, key)? {
        if known.request == asked {
            return Ok(replayed(known));
        }
        let detail = "another request came with this Idempotency-Key";
        return Err(Problem::new(StatusCode::CONFLICT, "key-reused", "The key was used already", detail)
            .remedy("send a new key with each new request"));
    }
    let answer = next.run(Request::from_parts(parts, Body::from(body))).await;
    if answer.status().is_server_error() {
        // It may go better when it is sent again.
        return Ok(answer);
    }
    let (parts, body) = answer.into_parts();
    let body = to_bytes(body, LARGEST).await.unwrap_or_default();
    let content_type = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let (status, content_type) = (parts.status.as_u16(), content_type.to_owned());
    let kept = Answer { request: asked, status, content_type, body: body.to_vec() };
    if let Err(error) = api.fleet.store().keep_answer(who, key, &kept) {
        tracing::warn!("an answer is not kept for who asks again: {error}");
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn replayed(known: Answer) -> Response {
    let status = StatusCode::from_u16(known.status).unwrap_or(StatusCode::OK);
    let mut answer = (status, known.body).into_response();
    if let Ok(value) = HeaderValue::from_str(&known.content_type) {
        answer.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    answer.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    answer
}
