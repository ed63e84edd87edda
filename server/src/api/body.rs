//! What comes with a request, read so that what is wrong with it is told like everything else.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::problem::Problem;

/// A specification: a JSON object.
pub struct Spec(pub Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Spec {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_json = |value: &header::HeaderValue| value.to_str().is_ok_and(|text| text.contains("json"));
        if !request.headers().get(header::CONTENT_TYPE).is_none_or(is_json) {
            let detail = "the body is to be JSON";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", "The body is not JSON", detail)
                .remedy("send Content-Type: application/json"));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            let (status, detail) = (rejection.status(), rejection.body_text());
            match status {
                StatusCode::PAYLOAD_TOO_LARGE => Problem::new(status, "too-large", "The body is too large", detail),
                status => Problem::new(status, "bad-request", "The request cannot be read", detail),
            }
        })?;
        // Its own message says line and column, and repeats nothing of the text.
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|e| Problem::body(format!("the body is no JSON: {e}")))?;
        match value {
            Value::Object(object) => Ok(Self(object)),
            _ => Err(Problem::body("the body is not a JSON object")),
        }
    }
}

/// The parameters of a query.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        read.map(|query| Self(query.0)).map_err(|rejection| Problem::parameter(rejection.body_text()))
    }
}

/// The parts of a path.
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        read.map(|path| Self(path.0)).map_err(|rejection| Problem::parameter(rejection.body_text()))
    }
}

/// The revision that is to be replaced: that of `If-Match`, none with `If-None-Match: *`, any without either.
///
/// # Errors
/// A tag that is none of ours can be that of no revision.
pub fn expected(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let text = |name| headers.get(name).map(|value: &header::HeaderValue| value.to_str().unwrap_or_default().trim());
    if text(header::IF_NONE_MATCH) == Some("*") {
        return Ok(Some(0));
    }
    match text(header::IF_MATCH) {
        None | Some("*") => Ok(None),
        Some(tag) => {
            let number = tag.trim_start_matches("W/").trim_matches('"').parse();
            number.map(Some).map_err(|_| Problem::parameter("If-Match is not an ETag of this daemon"))
        }
    }
}

/// The tag of a revision.
pub fn tag(revision: i64) -> [(header::HeaderName, String); 1] {
    [(header::ETAG, format!("\"{revision}\""))]
}

/// What is there, changed by a merge patch (RFC 7396).
pub fn patched(mut before: Map<String, Value>, patch: Map<String, Value>) -> Map<String, Value> {
    for (key, value) in patch {
        match (value, before.remove(&key)) {
            (Value::Null, _) => {}
            (Value::Object(patch), Some(Value::Object(inner))) => {
                before.insert(key, Value::Object(patched(inner, patch)));
            }
            (Value::Object(patch), _) => {
                before.insert(key, Value::Object(patched(Map::new(), patch)));
            }
            (value, _) => {
                before.insert(key, value);
            }
        }
    }
    before
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use serde_json::json;

    /// The examples of RFC 7396, appendix A, that are objects.
    #[test]
    fn a_patch_is_merged() {
        for (before, patch, after) in [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ] {
            let object = |v: &Value| v.as_object().unwrap().clone();
            assert_eq!(Value::Object(patched(object(&before), object(&patch))), after);
        }
    }
}
