//! The admin API: routes, and what every request goes through.

mod access;
mod acts;
mod again;
mod body;
mod browse;
mod documented;
mod endpoints;
mod events;
mod failures;
mod guard;
mod members;
mod operations;
mod problem;
mod rule_sets;
mod shared;
mod tasks;
mod tls;
mod under_way;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::{Router, middleware};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use failures::Failures;
pub use shared::{Api, Shared};
pub use tls::Tls;
pub use under_way::UnderWay;

/// Bytes of a request's body.
const LARGEST_BODY: usize = 8 << 20;

/// Everything that is served.
pub fn router(api: Shared) -> Router {
    let v1 = OpenApiRouter::new()
        .routes(routes!(endpoints::list, endpoints::create))
        .routes(routes!(endpoints::read, endpoints::replace, endpoints::change, endpoints::delete))
        .routes(routes!(endpoints::test))
        .routes(routes!(browse::schemas))
        .routes(routes!(browse::tables))
        .routes(routes!(browse::table))
        .routes(routes!(rule_sets::list))
        .routes(routes!(rule_sets::read, rule_sets::replace, rule_sets::delete))
        .routes(routes!(tasks::list, tasks::create))
        .routes(routes!(tasks::read, tasks::replace, tasks::change, tasks::delete))
        .routes(routes!(tasks::status))
        .routes(routes!(tasks::tables, members::add))
        .routes(routes!(members::remove))
        .routes(routes!(members::explain))
        .routes(routes!(tasks::runs))
        .routes(routes!(tasks::logs))
        .routes(routes!(tasks::revisions))
        .routes(routes!(tasks::changes))
        .routes(routes!(acts::start))
        .routes(routes!(acts::stop))
        .routes(routes!(acts::pause))
        .routes(routes!(acts::resume))
        .routes(routes!(acts::reset))
        .routes(routes!(acts::check))
        .routes(routes!(acts::plan))
        .routes(routes!(acts::reload))
        .routes(routes!(events::events))
        .routes(routes!(operations::audit))
        .routes(routes!(operations::level, operations::set_level));
    let whole = OpenApiRouter::new()
        .nest("/api/v1", v1)
        .routes(routes!(operations::livez))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::version))
        .routes(routes!(operations::metrics));
    let (routes, document) = whole.split_for_parts();
    let document = Arc::new(documented::document(document));
    routes
        .route("/openapi.json", axum::routing::get(move || documented::served(Arc::clone(&document))))
        .route("/docs", axum::routing::get(documented::page))
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(middleware::from_fn_with_state(Arc::clone(&api), again::again))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), guard::guard))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(middleware::from_fn(guard::in_time))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(CompressionLayer::new())
        .layer(middleware::from_fn(guard::request_id))
        .with_state(api)
}
