//! Errors as answers: `application/problem+json` (RFC 9457), with a stable `code`.

use std::any::Any;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::daemon::{Code, Refusal};

/// What is wrong.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// The HTTP status, again.
    pub status: u16,
    /// What kind of problem; stable, for programs.
    pub code: &'static str,
    /// The kind in words.
    pub title: &'static str,
    /// What is wrong.
    pub detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// What is wrong with single places of the body.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Place>,
}

/// What is wrong at one place of the body.
#[derive(Debug, Serialize, ToSchema)]
pub struct Place {
    /// A JSON pointer into the body (RFC 6901); empty for the whole of it.
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

impl Problem {
    /// Without a remedy or places.
    pub fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status: status.as_u16(), code, title, detail: detail.into(), remedy: None, errors: Vec::new() }
    }

    /// Says what to do.
    pub fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// A body that is none.
    pub fn body(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request cannot be read", detail)
    }

    /// A parameter that is none.
    pub fn parameter(detail: impl Into<String>) -> Self {
        Self::body(detail).remedy("see /openapi.json for the parameters")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let text = serde_json::to_string(&self).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/problem+json")], text).into_response()
    }
}

impl From<Refusal> for Problem {
    fn from(Refusal { code, detail, remedy, problems }: Refusal) -> Self {
        let (status, code, title) = match code {
            Code::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing"),
            Code::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The specification is not valid"),
            Code::Conflict => (StatusCode::CONFLICT, "conflict", "It cannot be done now"),
            Code::Changed => (StatusCode::PRECONDITION_FAILED, "changed", "It is not what it was"),
            Code::Endpoint => (StatusCode::BAD_GATEWAY, "endpoint", "A database does not do what it is asked"),
            Code::State => (StatusCode::INSUFFICIENT_STORAGE, "state", "The state file cannot be used"),
        };
        let errors = problems.into_iter().map(|(pointer, detail)| Place { pointer, detail }).collect();
        Self { remedy, errors, ..Self::new(status, code, title, detail) }
    }
}

impl From<crate::store::StoreError> for Problem {
    fn from(error: crate::store::StoreError) -> Self {
        Refusal::from(error).into()
    }
}

/// Nothing is served there.
pub async fn no_route() -> Problem {
    let detail = "nothing is served at this path";
    Problem::new(StatusCode::NOT_FOUND, "no-route", "There is no such path", detail).remedy("see /openapi.json")
}

/// Something is, but not in this way.
pub async fn no_method() -> Problem {
    let detail = "this path does not know this method";
    let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "no-method", "There is no such method", detail);
    problem.remedy("see /openapi.json")
}

/// A fault of ours.
pub fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let what = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!("a request panicked: {}", what.unwrap_or("unknown"));
    let detail = "the request met a fault of trem; tasks go on";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "fault", "A fault of trem", detail)
        .remedy("report it, with the daemon's log")
        .into_response()
}
