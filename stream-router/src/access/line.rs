//! Connections: how many there may be, and when one is cut.
//!
//! Keep-alive ends connections whose peer is gone, but only those that have begun to talk; so whoever connects and says
//! nothing, or a request byte by byte, is cut here. So are connections that are still open when a drain has taken too long.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, future::BoxFuture};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tonic::transport::server::Connected;

use super::{Arrivals, Farewell, Refused};

/// Connections beyond the limit that are kept for long enough to be told.
const REFUSALS_MAX: usize = 256;
/// How long that is.
const REFUSAL: Duration = Duration::from_secs(5);
/// After an accept that failed for want of something, such as file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
#[derive(Debug, Clone)]
pub struct Lines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    admitted: AtomicUsize,
    /// Those that wait to be told that they are too many. They take no place from others.
    refused: AtomicUsize,
    connections_max: usize,
    first_request: Duration,
    /// For those who find no place even to be refused.
    farewell: Option<Farewell>,
    cut: watch::Sender<bool>,
    arrivals: Arrivals,
}

impl Lines {
    /// Without a `farewell`, those who are far too many are closed without a word: whoever speaks TLS understands no other.
    pub fn new(
        connections_max: usize,
        first_request: Duration,
        farewell: Option<Farewell>,
        arrivals: &Arrivals,
    ) -> Self {
        Self(Arc::new(Shared {
            admitted: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            connections_max,
            first_request,
            farewell,
            cut: watch::Sender::new(false),
            arrivals: arrivals.clone(),
        }))
    }

    /// Connections as they come; errors of single connections are not told.
    pub fn incoming(&self, listener: TcpListener) -> impl Stream<Item = io::Result<Line>> + use<> {
        let lines = self.clone();
        futures::stream::unfold((lines, listener), |(lines, listener)| async {
            let line = lines.next(&listener).await;
            Some((Ok(line), (lines, listener)))
        })
    }

    /// The same for HTTP/1.
    pub fn listening(&self, listener: TcpListener) -> Listening {
        Listening {
            lines: self.clone(),
            listener,
        }
    }

    /// Cuts every connection, now.
    pub fn cut(&self) {
        self.0.cut.send_replace(true);
    }

    async fn next(&self, listener: &TcpListener) -> Line {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    // Small updates are to leave at once; without it they only leave later.
                    let _ = stream.set_nodelay(true);
                    if let Some(line) = self.admit(stream, address) {
                        return line;
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, address: SocketAddr) -> Option<Line> {
        let shared = &self.0;
        let seat = match Seat::take(shared, true) {
            Some(seat) => seat,
            None => {
                let seat = Seat::take(shared, false);
                let why = match seat {
                    Some(_) => Refused::Connections,
                    None => Refused::Flood,
                };
                shared.arrivals.refused(why);
                let Some(seat) = seat else {
                    if let Some(farewell) = &shared.farewell {
                        farewell.tell(stream);
                    }
                    return None;
                };
                seat
            }
        };
        let peer = Peer(Arc::new(Introduction {
            address,
            admitted: seat.admitted,
            called: AtomicBool::new(false),
        }));
        let fate = fate(Arc::clone(shared), peer.clone());
        Some(Line {
            stream,
            peer,
            fate: Some(Box::pin(fate)),
            _seat: seat,
        })
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Completes when the connection is to be cut.
async fn fate(shared: Arc<Shared>, peer: Peer) {
    let mut cut = shared.cut.subscribe();
    let unwanted = async {
        if !peer.is_admitted() {
            tokio::time::sleep(REFUSAL).await;
            return;
        }
        tokio::time::sleep(shared.first_request).await;
        if peer.0.called.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        shared.arrivals.refused(Refused::Silent);
    };
    tokio::select! {
        // The sender lives in `shared`.
        _ = cut.wait_for(|cut| *cut) => {}
        () = unwanted => {}
    }
}

/// A place among the open connections, given back when dropped.
#[derive(Debug)]
struct Seat {
    shared: Arc<Shared>,
    admitted: bool,
}

impl Seat {
    fn take(shared: &Arc<Shared>, admitted: bool) -> Option<Self> {
        let (taken, most) = shared.seats(admitted);
        let one_more = |taken: usize| (taken < most).then_some(taken + 1);
        taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        shared.arrivals.connections.inc();
        Some(Self {
            shared: Arc::clone(shared),
            admitted,
        })
    }
}

impl Shared {
    fn seats(&self, admitted: bool) -> (&AtomicUsize, usize) {
        if admitted {
            (&self.admitted, self.connections_max)
        } else {
            (&self.refused, REFUSALS_MAX)
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let (taken, _) = self.shared.seats(self.admitted);
        taken.fetch_sub(1, Ordering::Relaxed);
        self.shared.arrivals.connections.dec();
    }
}

/// Who is at the other end; part of every request.
#[derive(Debug, Clone)]
pub struct Peer(Arc<Introduction>);

#[derive(Debug)]
struct Introduction {
    address: SocketAddr,
    admitted: bool,
    called: AtomicBool,
}

impl Peer {
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// False for one too many: it is here only to be told.
    pub fn is_admitted(&self) -> bool {
        self.0.admitted
    }

    /// It has made a call.
    pub fn called(&self) {
        self.0.called.store(true, Ordering::Relaxed);
    }
}

/// One connection.
pub struct Line {
    stream: TcpStream,
    peer: Peer,
    /// `None` once it has come.
    fate: Option<BoxFuture<'static, ()>>,
    _seat: Seat,
}

impl Line {
    fn poll_fate(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if let Some(fate) = &mut self.fate {
            if fate.as_mut().poll(context).is_pending() {
                return Ok(());
            }
            self.fate = None;
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl Connected for Line {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// A listener of connections that are counted.
pub struct Listening {
    lines: Lines,
    listener: TcpListener,
}

impl axum::serve::Listener for Listening {
    type Io = Line;
    type Addr = Peer;

    async fn accept(&mut self) -> (Line, Peer) {
        let line = self.lines.next(&self.listener).await;
        let peer = line.peer.clone();
        (line, peer)
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer(Arc::new(Introduction {
            address: self.listener.local_addr()?,
            admitted: true,
            called: AtomicBool::new(true),
        })))
    }
}

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Listening>> for Peer {
    fn connect_info(stream: axum::serve::IncomingStream<'_, Listening>) -> Self {
        stream.remote_addr().clone()
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_fate(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_fate(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_fate(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
