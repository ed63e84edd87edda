//! `trem serve`: the daemon.

use std::fs::File;
use std::io::IsTerminal;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use indicatif::MultiProgress;
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::api::{self, Api, Tls};
use crate::cli::{LogFormat, Serve, State};
use crate::client::{Wanted, shown};
use crate::daemon::{Change, Fleet, Refusal, difference};
use crate::exit::{Exit, Failure};
use crate::store::{Desired, Key, Store};
use crate::{config, logging};

/// The key that secrets are sealed with, as hexadecimal digits.
const KEY: &str = "TREM_KEY";
/// How long tasks have to finish what they apply.
const STOP: Duration = Duration::from_secs(60);
/// How long answers that are under way have after that.
const ANSWERS: Duration = Duration::from_secs(5);

/// Opens the state file that a command names.
pub fn open(state: &State) -> Result<Store, Failure> {
    let key = match (&state.key_file, std::env::var(KEY)) {
        (Some(file), _) => Key::of_file(file, false).map_err(Failure::Usage)?,
        (None, Ok(text)) => {
            Key::of_text(&text).ok_or_else(|| Failure::Usage(format!("{KEY} does not hold 64 hexadecimal digits")))?
        }
        (None, Err(_)) => Key::of_file(&beside(&state.state, "key"), true).map_err(Failure::Usage)?,
    };
    Store::open(&state.state, key).map_err(|e| Failure::System(e.to_string()))
}

fn beside(state: &Path, suffix: &str) -> PathBuf {
    let mut name = state.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Runs until it is told to stop.
pub async fn serve(args: Serve) -> Result<Exit, Failure> {
    let local = args.listen.ip().is_loopback();
    refuse_what_is_open(&args, local)?;
    let memory =
        config::size(&args.memory).ok_or_else(|| Failure::Usage("--memory is not a size such as 1GiB".into()))?;
    let _alone = lock(&args.state.state)?;
    let store = open(&args.state)?;
    let format = args.log_format.unwrap_or(match std::io::stderr().is_terminal() {
        true => LogFormat::Text,
        false => LogFormat::Json,
    });
    let log = logging::start(format, &MultiProgress::new(), Some(store.clone()))?;
    let tls = tls(&args)?;
    let listener = TcpListener::bind(args.listen).map_err(|e| {
        Failure::System(format!("cannot listen on {}: {e}: name another address with --listen", args.listen))
    })?;
    let address = listener.local_addr().map_err(|e| Failure::System(format!("no address: {e}")))?;
    if !args.no_auth && store.tokens().map_err(system)?.is_empty() {
        let file = args.state.state.display();
        tracing::warn!("no token yet: make one with `trem token create --state {file} --role admin`");
    }
    let (stop, fleet) = (CancellationToken::new(), Fleet::new(store, memory));
    watch_signals(&stop)?;
    let shared = Arc::new(Api {
        fleet: fleet.clone(),
        open: args.no_auth,
        hosts: hosts(&args, local),
        stop: stop.clone(),
        log: log.clone(),
        failures: api::Failures::default(),
        under_way: api::UnderWay::default(),
    });
    if let Some(file) = &args.config {
        configure(&fleet, file).await?;
    }
    fleet.resume().await.map_err(refused)?;
    tracing::info!(%address, state = %args.state.state.display(), version = env!("CARGO_PKG_VERSION"), "serving");
    let handle = Handle::new();
    let mut serving = tokio::spawn(answer(api::router(shared), listener, tls, handle.clone()));
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        ended = &mut serving => return Err(Failure::System(format!("the API has ended: {ended:?}"))),
    }
    // Whoever has asked for something learns what has come of it.
    handle.graceful_shutdown(Some(STOP));
    let all = fleet.shut_down(STOP).await;
    handle.graceful_shutdown(Some(ANSWERS));
    if tokio::time::timeout(2 * ANSWERS, serving).await.is_err() {
        tracing::warn!("answers that were under way are cut off");
    }
    match all {
        true => tracing::info!("stopped"),
        false => tracing::warn!("tasks that have not ended are cut off; they go on from what is on the target"),
    }
    log.flush();
    Ok(Exit::Done)
}

/// Whoever can reach the daemon must not be able to read tokens on the way, or need none.
fn refuse_what_is_open(args: &Serve, local: bool) -> Result<(), Failure> {
    if args.no_auth && !local {
        let why = format!("--no-auth lets everybody who reaches {} do everything", args.listen);
        return Err(Failure::Usage(format!("{why}: leave it out, or listen on 127.0.0.1")));
    }
    if !local && !args.insecure_listen && args.tls_cert.is_none() {
        let why = format!("{} is reached from other machines, and tokens would be sent in the clear", args.listen);
        let what = "name a certificate with --tls-cert, or say --insecure-listen";
        return Err(Failure::Usage(format!("{why}: {what}")));
    }
    Ok(())
}

/// The names that requests may call the daemon by. One that other machines reach has whichever they know.
fn hosts(args: &Serve, local: bool) -> Vec<String> {
    if !local && args.allow_host.is_empty() {
        return Vec::new();
    }
    let own = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).into_iter();
    let listened = match args.listen.ip() {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
    };
    own.chain([listened]).chain(args.allow_host.iter().cloned()).collect()
}

/// Two daemons on one file would start every task twice.
fn lock(state: &Path) -> Result<File, Failure> {
    let file = beside(state, "lock");
    let shown = file.display();
    let open = File::options().create(true).truncate(false).write(true).open(&file);
    let open = open.map_err(|e| Failure::System(format!("cannot write {shown}: {e}")))?;
    open.try_lock().map_err(|e| match e {
        std::fs::TryLockError::WouldBlock => {
            Failure::Usage(format!("another daemon has the state file {}: stop it first", state.display()))
        }
        std::fs::TryLockError::Error(e) => Failure::System(format!("cannot lock {shown}: {e}")),
    })?;
    Ok(open)
}

/// The certificate files, as they are now; they are read again on SIGHUP.
fn tls(args: &Serve) -> Result<Option<RustlsConfig>, Failure> {
    let (Some(certificate), Some(key)) = (args.tls_cert.clone(), args.tls_key.clone()) else { return Ok(None) };
    let files = Tls { certificate, key, clients: args.tls_client_ca.clone() };
    let config = files.config().map_err(Failure::Usage)?;
    let mut hangup = listen(SignalKind::hangup())?;
    let reloaded = config.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match files.reload(&reloaded) {
                Ok(()) => tracing::info!("certificates are read again"),
                Err(error) => tracing::error!("certificates stay as they were: {error}"),
            }
        }
    });
    Ok(Some(config))
}

async fn answer(
    router: axum::Router,
    listener: TcpListener,
    tls: Option<RustlsConfig>,
    handle: Handle<SocketAddr>,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    match tls {
        Some(tls) => axum_server::from_tcp_rustls(listener, tls)?.handle(handle).serve(service).await,
        None => axum_server::from_tcp(listener)?.handle(handle).serve(service).await,
    }
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|e| Failure::System(format!("cannot listen for signals: {e}")))
}

/// What a file has otherwise than the state file, as far as it is shown.
fn differences(fleet: &Fleet, wanted: &Wanted) -> Result<Vec<(String, Vec<Change>)>, Failure> {
    let store = fleet.store();
    let mut there: Vec<(&str, String, Value)> = Vec::new();
    there.extend(store.endpoints().map_err(system)?.into_iter().map(|e| ("endpoints", e.name, e.shown)));
    let object = Value::Object;
    there.extend(store.rule_sets().map_err(system)?.into_iter().map(|s| ("rule-sets", s.name, object(s.spec))));
    there.extend(store.tasks().map_err(system)?.into_iter().map(|t| ("tasks", t.name, object(t.spec))));
    let mut found = Vec::new();
    for kind in ["endpoints", "rule-sets", "tasks"] {
        for (name, spec) in wanted.of(kind) {
            let known = there.iter().find(|(of, known, _)| *of == kind && *known == name).map(|(.., spec)| spec);
            let changes = difference(known.unwrap_or(&Value::Null), &shown(&spec));
            if !changes.is_empty() {
                found.push((format!("{kind}.{name}"), changes));
            }
        }
    }
    Ok(found)
}

/// Puts what a file says; tasks that are new are to run.
async fn configure(fleet: &Fleet, file: &Path) -> Result<(), Failure> {
    const WHO: &str = "--config";
    let wanted = Wanted::read(file)?;
    let object = |spec: Value| spec.as_object().cloned().unwrap_or_default();
    let wrong = |subject: String, refusal: Refusal| {
        let places: String = refusal.problems.iter().map(|(at, what)| format!("\n  {at}: {what}")).collect();
        Failure::Usage(format!("{}: {subject}: {}{places}", file.display(), refusal.detail))
    };
    for (subject, changes) in differences(fleet, &wanted)? {
        let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
        tracing::info!(%subject, changes = changes.join(", "), "the configuration says otherwise");
    }
    for (name, spec) in wanted.of("endpoints") {
        fleet.put_endpoint(&name, object(spec), None, WHO).map_err(|e| wrong(format!("endpoint {name}"), e))?;
    }
    for (name, spec) in wanted.of("rule-sets") {
        fleet.put_rule_set(&name, &object(spec), None, WHO).map_err(|e| wrong(format!("rule set {name}"), e))?;
    }
    for (name, spec) in wanted.of("tasks") {
        let put = fleet.put_task(&name, &object(spec), None, WHO).await;
        if put.map_err(|e| wrong(format!("task {name}"), e))?.put.created {
            fleet.store().want(&name, Desired::Running, None).map_err(system)?;
        }
    }
    Ok(())
}

fn watch_signals(stop: &CancellationToken) -> Result<(), Failure> {
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: what is being applied is finished first");
        stop.cancel();
    });
    Ok(())
}

fn system(error: crate::store::StoreError) -> Failure {
    Failure::System(error.to_string())
}

fn refused(refusal: Refusal) -> Failure {
    Failure::System(refusal.detail)
}
