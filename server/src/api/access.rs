//! Who may do what: a handler asks for the role that it needs.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::problem::Problem;
use crate::store::{Identity, Role};

/// May look.
pub struct Viewer;
/// May start, stop, pause, reload.
pub struct Operator(pub String);
/// May change endpoints and tasks.
pub struct Admin(pub String);

/// Whoever asks, if the role is enough. The guard has put the identity there.
fn named(parts: &Parts, needed: Role) -> Result<String, Problem> {
    let Some(identity) = parts.extensions.get::<Identity>() else { return Err(unknown("no token was sent")) };
    if identity.role >= needed {
        return Ok(identity.name.clone());
    }
    let detail = format!("the token's role is {}, and this needs {}", identity.role.word(), needed.word());
    let problem = Problem::new(StatusCode::FORBIDDEN, "forbidden", "The token does not allow it", detail);
    Err(problem.remedy(format!("use a token of another role: `trem token create --role {}`", needed.word())))
}

/// Nobody knows who asks.
pub fn unknown(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "A token is needed", detail).remedy(
        "send `Authorization: Bearer TOKEN`; `trem token create --role admin` makes one, where the state file is",
    )
}

impl<S: Sync> FromRequestParts<S> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        named(parts, Role::Viewer).map(|_| Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        named(parts, Role::Operator).map(Self)
    }
}

impl<S: Sync> FromRequestParts<S> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        named(parts, Role::Admin).map(Self)
    }
}
