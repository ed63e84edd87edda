//! `trem endpoint`: the endpoints of a daemon.

use serde_json::Value;

use crate::cli::{EndpointCommand, EndpointTables, OfServer};
use crate::client::{Client, segment};
use crate::exit::{Exit, Failure};
use crate::layout::{Table, width};
use crate::output;

/// Asks a daemon about endpoints.
pub fn endpoint(command: &EndpointCommand) -> Result<Exit, Failure> {
    match command {
        EndpointCommand::Ls(of) => list(of),
        EndpointCommand::Show(one) => {
            let answer = Client::new(&one.of.server)?.get(&format!("/endpoints/{}", segment(&one.name)))?;
            output::json(&answer)?;
            Ok(Exit::Done)
        }
        EndpointCommand::Test(one) => test(&one.of, &one.name),
        EndpointCommand::Tables(args) => tables(args),
    }
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn list(of: &OfServer) -> Result<Exit, Failure> {
    let answer = Client::new(&of.server)?.get("/endpoints")?;
    if of.json {
        output::json(&answer)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["endpoint", "kind", "url"], width());
    for endpoint in answer["endpoints"].as_array().into_iter().flatten() {
        let spec = &endpoint["spec"];
        table.row([text(endpoint, "name"), text(spec, "kind"), text(spec, "url")].map(str::to_owned));
    }
    output::say(table);
    Ok(Exit::Done)
}

/// Fails if it does not answer.
fn test(of: &OfServer, name: &str) -> Result<Exit, Failure> {
    let answer = Client::new(&of.server)?.post(&format!("/endpoints/{}/test", segment(name)))?;
    let ok = answer["ok"] == true;
    if of.json {
        output::json(&answer)?;
    } else if ok {
        output::tell("", format_args!("endpoint {name} ({}) answers", text(&answer, "described")));
    } else {
        output::tell("", format_args!("endpoint {name}: {}", text(&answer, "reason")));
        if let Some(remedy) = answer["remedy"].as_str() {
            output::tell("  remedy: ", remedy);
        }
    }
    Ok(Exit::of(!ok))
}

fn tables(args: &EndpointTables) -> Result<Exit, Failure> {
    let pairs = [("schema", &args.schema), ("like", &args.like)];
    let query: Vec<String> =
        pairs.iter().filter_map(|(key, value)| Some(format!("{key}={}", segment(value.as_ref()?)))).collect();
    let path = format!("/endpoints/{}/tables?{}", segment(&args.name), query.join("&"));
    let answer = Client::new(&args.of.server)?.get(&path)?;
    if args.of.json {
        output::json(&answer)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["table", "rows (estimated)", "size"], width());
    for one in answer["tables"].as_array().into_iter().flatten() {
        let rows = one["rows_estimated"].as_u64().map(|n| n.to_string()).unwrap_or_default();
        let size = one["bytes"].as_u64().map(output::bytes).unwrap_or_default();
        table.row([text(one, "name").to_owned(), rows, size]);
    }
    output::say(table);
    Ok(Exit::Done)
}
