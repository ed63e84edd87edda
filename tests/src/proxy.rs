//! A proxy on the loopback that breaks connections on command.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards a free port to a server. Its faults apply to open connections and to new ones.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: AtomicU16,
    refusing: AtomicBool,
    holding: watch::Sender<bool>,
    /// Counts the cuts: a connection of an earlier generation ends.
    generation: watch::Sender<u64>,
    /// Bytes that may still pass in either direction before everything is cut; `u64::MAX` is unlimited.
    allowance: AtomicU64,
    accepted: AtomicU64,
    /// Statements that clients have sent.
    statements: AtomicU64,
    /// After this many nothing passes any more; `u64::MAX` is never.
    last_statement: AtomicU64,
}

impl Proxy {
    /// Starts forwarding to a port of 127.0.0.1.
    pub async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("the port").port();
        let shared = Arc::new(Shared {
            upstream: AtomicU16::new(upstream),
            refusing: AtomicBool::new(false),
            holding: watch::Sender::new(false),
            generation: watch::Sender::new(0),
            allowance: AtomicU64::new(u64::MAX),
            accepted: AtomicU64::new(0),
            statements: AtomicU64::new(0),
            last_statement: AtomicU64::new(u64::MAX),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, accepting }
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Forwards new connections to another server.
    pub fn redirect(&self, upstream: u16) {
        self.shared.upstream.store(upstream, Ordering::Relaxed);
    }

    /// Ends every connection; new ones are forwarded as before.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Ends every connection once this many more bytes have passed.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.allowance.store(bytes, Ordering::Relaxed);
    }

    /// While refusing, new connections are closed at once.
    pub fn refuse(&self, refusing: bool) {
        self.shared.refusing.store(refusing, Ordering::Relaxed);
    }

    /// While holding, no byte passes and nothing is closed: what a dead network looks like.
    pub fn hold(&self, holding: bool) {
        self.shared.holding.send_replace(holding);
    }

    /// From here on statements are counted anew, and once the server has been sent so many, nothing passes any more:
    /// the proxy holds until it is told otherwise.
    pub fn hold_after(&self, statements: u64) {
        self.shared.statements.store(0, Ordering::Relaxed);
        self.shared.last_statement.store(statements, Ordering::Relaxed);
    }

    /// Statements that clients have sent: simple ones, and the steps of prepared ones and of copies.
    pub fn statements(&self) -> u64 {
        self.shared.statements.load(Ordering::Relaxed)
    }

    /// Whether nothing passes.
    pub fn is_holding(&self) -> bool {
        *self.shared.holding.borrow()
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Shared {
    fn cut(&self) {
        self.generation.send_modify(|g| *g += 1);
    }

    /// Takes `bytes` off the allowance; false when it is used up.
    fn spend(&self, bytes: u64) -> bool {
        let spend = |left: u64| match left {
            u64::MAX => Some(u64::MAX),
            left => left.checked_sub(bytes),
        };
        if self.allowance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok() {
            return true;
        }
        self.allowance.store(u64::MAX, Ordering::Relaxed);
        self.cut();
        false
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        if shared.refusing.load(Ordering::Relaxed) {
            continue;
        }
        let upstream = shared.upstream.load(Ordering::Relaxed);
        let shared = Arc::clone(&shared);
        let mut generation = shared.generation.subscribe();
        generation.mark_unchanged();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let ((client_in, client_out), (server_in, server_out)) = (client.into_split(), server.into_split());
            tokio::select! {
                () = forward(client_in, server_out, &shared, Some(Frontend::default())) => {}
                () = forward(server_in, client_out, &shared, None) => {}
                _ = generation.changed() => {}
            }
        });
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, mut frontend: Option<Frontend>) {
    let mut buffer = vec![0; 64 << 10];
    let mut holding = shared.holding.subscribe();
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        if holding.wait_for(|h| !*h).await.is_err() || !shared.spend(n as u64) {
            break;
        }
        let statements = frontend.as_mut().map_or(0, |f| f.statements(&buffer[..n]));
        let sent = shared.statements.fetch_add(statements, Ordering::Relaxed) + statements;
        if to.write_all(&buffer[..n]).await.is_err() {
            break;
        }
        if statements > 0 && sent >= shared.last_statement.load(Ordering::Relaxed) {
            shared.holding.send_replace(true);
        }
    }
    // Lets what is under way in the other direction arrive before both ends are closed.
    let _ = tokio::time::timeout(Duration::from_millis(20), to.shutdown()).await;
}

/// Finds the statements in what a client sends.
#[derive(Default)]
struct Frontend {
    /// Messages have a type: the one without, which opens the session, has passed.
    open: bool,
    /// The beginning of a message, as far as it has come.
    head: Vec<u8>,
    /// Bytes of the message that are still to come.
    rest: usize,
}

impl Frontend {
    /// How many begin in these bytes.
    fn statements(&mut self, mut bytes: &[u8]) -> u64 {
        let mut found = 0;
        while !bytes.is_empty() {
            if self.rest > 0 {
                let passed = self.rest.min(bytes.len());
                self.rest -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            // Type and length; of the first message its length and what it is.
            let wanted = if self.open { 5 } else { 8 };
            let taken = (wanted - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.head.len() < wanted {
                break;
            }
            let number = |at: usize| u32::from_be_bytes(self.head[at..at + 4].try_into().expect("four bytes"));
            if self.open {
                self.rest = (number(1) as usize).saturating_sub(4);
                found += u64::from(b"QPEc".contains(&self.head[0]));
            } else {
                self.rest = (number(0) as usize).saturating_sub(8);
                self.open = number(4) == 3 << 16;
            }
            self.head.clear();
        }
        found
    }
}
