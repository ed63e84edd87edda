//! What watches the daemon: whether it lives, what it is, its metrics, its audit, its log level.

use std::fmt::Write;
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trem_engine::metrics::{self, Kind, Sample};
use utoipa::{IntoParams, ToSchema};

use super::access::{Admin, Viewer};
use super::body::{Query, Spec};
use super::problem::Problem;
use super::shared::Shared;
use crate::store::{By, Entry};

/// What this is.
#[derive(Serialize, ToSchema)]
pub struct Version {
    /// Always `trem`.
    name: &'static str,
    /// The version.
    version: &'static str,
}

/// Changes that were made.
#[derive(Serialize, ToSchema)]
pub struct Audit {
    entries: Vec<Entry>,
}

/// What is logged.
#[derive(Serialize, ToSchema)]
pub struct LogLevel {
    /// Such as `info`, or `trem_engine=debug`.
    level: String,
}

/// How many.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Last {
    /// So many at most.
    limit: Option<u32>,
}

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "operations", responses((status = 200, body = String)))]
pub async fn livez() -> &'static str {
    "ok\n"
}

/// The daemon has read what it should do, and its state file can be read.
#[utoipa::path(get, path = "/readyz", tag = "operations", responses((status = 200, body = String)))]
pub async fn readyz(State(api): State<Shared>) -> Result<&'static str, Problem> {
    api.fleet.store().last_event()?;
    Ok("ok\n")
}

/// What this is.
#[utoipa::path(get, path = "/version", tag = "operations", responses((status = 200, body = Version)))]
pub async fn version() -> Json<Version> {
    Json(Version { name: "trem", version: env!("CARGO_PKG_VERSION") })
}

/// What the tasks have done, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, content_type = "text/plain", body = String)))]
pub async fn metrics(_: Viewer, State(api): State<Shared>) -> impl IntoResponse {
    let now = SystemTime::now();
    let mut samples: Vec<Sample> = Vec::new();
    for (name, running) in api.fleet.all_running() {
        let progress = running.reporter().snapshot();
        samples.extend(metrics::of_task(&name, &progress, &running.task().budget, now));
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], exposed(&samples))
}

/// Changes that were made through this API, the latest first.
#[utoipa::path(get, path = "/audit", tag = "operations", params(Last), responses((status = 200, body = Audit)))]
pub async fn audit(_: Admin, State(api): State<Shared>, Query(last): Query<Last>) -> Result<Json<Audit>, Problem> {
    Ok(Json(Audit { entries: api.fleet.store().audited(last.limit.unwrap_or(100))? }))
}

/// What is logged.
#[utoipa::path(get, path = "/log-level", tag = "operations", responses((status = 200, body = LogLevel)))]
pub async fn level(_: Viewer, State(api): State<Shared>) -> Json<LogLevel> {
    Json(LogLevel { level: api.log.level() })
}

/// Logs otherwise, until the daemon ends: `{"level": "debug"}`, or `trem_engine=debug`.
#[utoipa::path(put, path = "/log-level", tag = "operations", request_body = Object,
    responses((status = 200, body = LogLevel)))]
pub async fn set_level(
    Admin(who): Admin,
    State(api): State<Shared>,
    Spec(body): Spec,
) -> Result<Json<LogLevel>, Problem> {
    let level = match (body.get("level"), body.len()) {
        (Some(Value::String(level)), 1) => level,
        _ => return Err(Problem::body("the body is to have the key `level` alone, which is to be a string")),
    };
    let before = api.log.level();
    let by = By { who: &who, action: "put", object: ("log level", level) };
    api.fleet.store().audit(by, &json!(before), &json!(level))?;
    api.log.set_level(level).map_err(Problem::body)?;
    Ok(Json(LogLevel { level: level.clone() }))
}

/// The text format of Prometheus, version 0.0.4.
fn exposed(samples: &[Sample]) -> String {
    let mut out = String::new();
    for metric in metrics::ALL {
        let own: Vec<&Sample> = samples.iter().filter(|sample| sample.metric == metric).collect();
        if own.is_empty() {
            continue;
        }
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {} {}\n# TYPE {} {kind}", metric.name, metric.help, metric.name);
        for sample in own {
            let labels: Vec<String> =
                sample.labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            let _ = writeln!(out, "{}{{{}}} {}", metric.name, labels.join(","), sample.value);
        }
    }
    out
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
