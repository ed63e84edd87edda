//! The OpenAPI document, from the code.

use std::sync::Arc;

use axum::Json;
use axum::response::{Html, IntoResponse};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, InfoBuilder, OpenApi, Ref, RefOr, ResponseBuilder};
use utoipa::{PartialSchema, ToSchema};

use super::problem::{Place, Problem};

const ABOUT: &str = "Endpoints, tasks and what has become of them. Bodies have the keys of `tasks.toml`, as JSON. \
                     Errors are `application/problem+json` with a stable `code`, `detail` and `remedy`.";

/// Completes what the routes say of themselves: every one of them can refuse, in one form.
pub fn document(mut api: OpenApi) -> OpenApi {
    api.info = InfoBuilder::new().title("trem").version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT)).build();
    let components = api.components.get_or_insert_default();
    for (name, schema) in [(Problem::name(), Problem::schema()), (Place::name(), Place::schema())] {
        components.schemas.insert(name.into_owned(), schema);
    }
    let bearer = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
    components.security_schemes.insert("token".to_owned(), RefOr::T(bearer));
    for (path, item) in &mut api.paths.paths {
        let secured = path.starts_with("/api/") || path == "/metrics";
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            for range in ["4XX", "5XX"] {
                operation.responses.responses.insert(range.to_owned(), RefOr::T(refusal()));
            }
            if secured {
                let token = utoipa::openapi::SecurityRequirement::new("token", Vec::<String>::new());
                operation.security.get_or_insert_default().push(token);
            }
        }
    }
    api
}

fn refusal() -> utoipa::openapi::Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
    ResponseBuilder::new()
        .description("What is wrong, and what to do")
        .content("application/problem+json", content)
        .build()
}

/// The document.
pub async fn served(document: Arc<OpenApi>) -> impl IntoResponse {
    Json(document.as_ref().clone())
}

/// The same, for people: a page that asks nobody else for anything.
pub async fn page() -> Html<&'static str> {
    Html(include_str!("docs.html"))
}
