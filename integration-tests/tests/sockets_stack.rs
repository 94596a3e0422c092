//! Which stack a socket belongs to, and how long a stack lives.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidewire::Stack;
use tidewire::net::{
    IcmpSocket, ResolveFuture, Resolver, TcpListener, TcpSocket, TcpStream, UdpSocket, lookup_host,
};
use tokio::io::AsyncReadExt;
use tokio::runtime::{Builder, Runtime};

const PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4000);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// A loopback stack that nothing finds by itself.
fn hidden() -> Stack {
    Stack::builder().unregistered().build().unwrap()
}

async fn is_taken() -> bool {
    match TcpListener::bind(PORT).await {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
            true
        }
    }
}

#[tokio::test]
async fn a_named_stack_comes_before_the_scope() {
    let (named, scoped) = (hidden(), hidden());
    let listener = scoped.scope(named.tcp_listener(PORT)).await.unwrap();
    assert!(named.scope(is_taken()).await);
    assert!(!scoped.scope(is_taken()).await);
    assert!(!is_taken().await);
    drop(listener);
}

#[tokio::test]
async fn a_scope_comes_before_the_runtimes_stack() {
    let registered = Stack::builder().build().unwrap();
    let scoped = hidden();
    let listener = scoped.scope(TcpListener::bind(PORT)).await.unwrap();
    assert!(!is_taken().await);
    assert!(scoped.scope(is_taken()).await);
    let _taken_there_too = registered.tcp_listener(PORT).await.unwrap();
    assert!(is_taken().await);
    drop(listener);
}

#[tokio::test]
async fn scopes_nest_and_end_with_each_poll() {
    let (outer, inner) = (hidden(), hidden());
    let listener = outer
        .scope(async {
            let _in_inner = inner.scope(TcpListener::bind(PORT)).await.unwrap();
            assert!(!is_taken().await);
            tokio::task::yield_now().await;
            TcpListener::bind(PORT).await.unwrap()
        })
        .await;
    assert!(outer.scope(is_taken()).await);
    assert!(!is_taken().await, "neither scope is left behind");
    drop(listener);
}

#[test]
fn guards_work_without_a_runtime_and_in_any_order_of_drop() {
    let runtime = runtime();
    let (first, second) = runtime.block_on(async { (hidden(), hidden()) });
    let bind = || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(PORT).map(|()| socket.listen(1).unwrap())
    };
    let in_first = first.enter();
    let listener = bind().unwrap();
    let in_second = second.enter();
    let _other = bind().unwrap();
    drop(in_first);
    assert_eq!(
        bind().unwrap_err().kind(),
        ErrorKind::AddrInUse,
        "the second scope still holds"
    );
    drop(in_second);
    let error = bind().unwrap_err();
    assert!(
        error.to_string().contains("no network stack here"),
        "{error}"
    );
    drop(listener);
}

#[tokio::test]
async fn tasks_and_blocking_threads_find_the_runtimes_stack() {
    let _listener = TcpListener::bind(PORT).await.unwrap();
    assert!(tokio::spawn(is_taken()).await.unwrap());
    let blocking = || tokio::runtime::Handle::current().block_on(is_taken());
    assert!(tokio::task::spawn_blocking(blocking).await.unwrap());
    let local = tokio::task::LocalSet::new();
    assert!(
        local
            .run_until(async { tokio::task::spawn_local(is_taken()).await.unwrap() })
            .await
    );
}

#[tokio::test]
async fn the_first_stack_built_on_a_runtime_is_its_stack() {
    let first = Stack::builder().build().unwrap();
    let _second = Stack::builder().build().unwrap();
    let _listener = TcpListener::bind(PORT).await.unwrap();
    assert!(first.tcp_listener(PORT).await.is_err());
}

#[tokio::test]
async fn an_explicit_stack_takes_the_place_of_a_lazy_one() {
    let lazy = TcpListener::bind(PORT).await.unwrap();
    assert!(is_taken().await);
    let _explicit = Stack::builder().build().unwrap();
    assert!(!is_taken().await);
    // The lazy stack's sockets go on in it.
    assert_eq!(lazy.local_addr().unwrap(), PORT);
}

#[test]
fn each_runtime_has_a_loopback_of_its_own() {
    let (one, two) = (runtime(), runtime());
    let listener = one.block_on(TcpListener::bind(PORT)).unwrap();
    let error = two.block_on(TcpStream::connect(PORT)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let _same_port = two.block_on(TcpListener::bind(PORT)).unwrap();
    let connected = one.block_on(TcpStream::connect(PORT)).unwrap();
    drop((connected, listener));
}

#[test]
fn a_refusal_names_the_runtime_whose_loopback_has_the_listener() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Log {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(text)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let address = SocketAddr::from(([127, 0, 0, 1], 4321));
    let (one, two) = (runtime(), runtime());
    let listener = one.block_on(TcpListener::bind(address)).unwrap();
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || {
        assert!(two.block_on(TcpStream::connect(address)).is_err());
        assert!(two.block_on(TcpStream::connect("127.0.0.1:4322")).is_err());
    });
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("another tokio runtime").count(), 1, "{text}");
    assert!(
        text.contains(&one.handle().id().to_string()) && text.contains("127.0.0.1:4321"),
        "{text}"
    );
    drop(listener);
}

#[test]
fn an_attached_runtime_shares_the_stack_until_it_ends() {
    let (home, guest) = (runtime(), runtime());
    let stack = home.block_on(async { Stack::builder().build() }).unwrap();
    stack.attach(guest.handle());
    let listener = guest.block_on(TcpListener::bind(PORT)).unwrap();
    assert!(home.block_on(is_taken()));
    drop(guest);
    // Whatever id the next runtime gets, it is not attached.
    let next = runtime();
    assert!(!next.block_on(is_taken()));
    assert!(
        home.block_on(is_taken()),
        "sockets outlive the runtime they were made on"
    );
    drop(listener);
}

#[tokio::test]
async fn a_stack_that_has_ended_is_not_found() {
    let stack = Stack::builder().build().unwrap();
    let _listener = TcpListener::bind(PORT).await.unwrap();
    stack.shutdown().await;
    assert!(
        !is_taken().await,
        "the next socket gets a loopback of its own"
    );
}

#[tokio::test]
async fn a_stack_lives_as_long_as_its_sockets() {
    let listener = {
        let stack = hidden();
        stack.tcp_listener(PORT).await.unwrap()
    };
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let mut accept = tokio_test::task::spawn(listener.accept());
    assert!(accept.poll().is_pending(), "no error: the stack is there");
}

#[test]
fn without_a_runtime_the_error_says_what_to_do() {
    let errors = [
        futures::executor::block_on(TcpListener::bind(PORT)).unwrap_err(),
        futures::executor::block_on(TcpStream::connect(PORT)).unwrap_err(),
        futures::executor::block_on(UdpSocket::bind(PORT)).unwrap_err(),
        futures::executor::block_on(IcmpSocket::bind(Ipv4Addr::LOCALHOST)).unwrap_err(),
        futures::executor::block_on(lookup_host(PORT))
            .map(drop)
            .unwrap_err(),
        TcpSocket::new_v4().unwrap().bind(PORT).unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains("Stack::enter"), "{error}");
    }
    assert!(Stack::builder().build().is_err());
}

#[test]
fn a_runtime_without_time_is_refused_and_not_a_panic() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(TcpListener::bind(PORT)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

/// Runs `wait` on a thread of its own; panics if it is not done in time.
fn ends_in_time<T: Send + 'static>(
    wait: impl Future<Output = T> + Send + 'static,
) -> std::thread::JoinHandle<T> {
    std::thread::spawn(|| {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(20), wait)
                .await
                .expect("it hangs after its stack has ended")
        })
    })
}

#[test]
fn the_end_of_the_runtime_fails_every_socket_and_nothing_hangs() {
    let home = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let (listener, idle_listener, mut client, server, udp, icmp) = home.block_on(async {
        let stack = hidden();
        let listener = stack.tcp_listener("127.0.0.1:0").await.unwrap();
        let idle_listener = stack.tcp_listener("127.0.0.1:0").await.unwrap();
        let client = stack
            .tcp_stream(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let udp = stack.udp_socket("127.0.0.1:0").await.unwrap();
        let icmp = stack.icmp_socket(Ipv4Addr::LOCALHOST.into()).await.unwrap();
        (listener, idle_listener, client, server, udp, icmp)
    });
    while server.try_write(&[0; 1 << 16]).is_ok() {}
    let accepting = ends_in_time(async move { listener.accept().await.map(drop) });
    let receiving = ends_in_time(async move { udp.recv(&mut [0; 8]).await.map(drop) });
    let pinging = ends_in_time(async move { icmp.recv_from(&mut [0; 8]).await.map(drop) });
    // The driver may still be making room, so one wait is not enough to find none.
    let writing = ends_in_time(async move {
        loop {
            server.writable().await?;
            match server.try_write(&[0; 1 << 16]) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    });
    std::thread::sleep(Duration::from_millis(50));
    drop(home);
    for waiting in [accepting, receiving, pinging, writing] {
        assert!(waiting.join().unwrap().is_err());
    }
    // What had arrived is still read, then the error.
    let reading = ends_in_time(async move {
        let mut received = Vec::new();
        let error = client.read_to_end(&mut received).await.unwrap_err();
        (received.len(), error.raw_os_error())
    });
    let (received, code) = reading.join().unwrap();
    assert!(received > 0);
    assert_eq!(code, Some(libc::ENETDOWN));
    // And what only begins to wait afterwards fails at once.
    assert!(
        ends_in_time(async move { idle_listener.accept().await.map(drop) })
            .join()
            .unwrap()
            .is_err()
    );
}

/// A runtime that a thread keeps for itself may go after tokio's own state of the thread.
#[test]
fn a_runtime_that_ends_with_its_thread_fails_every_socket() {
    thread_local! {
        static HOME: std::cell::RefCell<Option<Runtime>> = const { std::cell::RefCell::new(None) };
    }
    let keeper = std::thread::spawn(|| {
        HOME.with(|home| {
            let mut home = home.borrow_mut();
            let runtime = home.insert(runtime());
            runtime.block_on(async { hidden().udp_socket("127.0.0.1:0").await.unwrap() })
        })
    });
    let socket = keeper.join().unwrap();
    let receiving = ends_in_time(async move { socket.recv(&mut [0; 8]).await.map(drop) });
    assert!(receiving.join().unwrap().is_err());
}

#[tokio::test]
async fn kernel_sockets_stay_outside() {
    let unsupported =
        |result: io::Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = || std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    unsupported(TcpStream::from_std(stream()).map(drop));
    unsupported(TcpStream::try_from(stream()).map(drop));
    unsupported(TcpSocket::from_std_stream(stream()).bind(PORT));
    unsupported(
        TcpSocket::from_std_stream(stream())
            .connect(PORT)
            .await
            .map(drop),
    );
    unsupported(TcpSocket::from_std_stream(stream()).listen(1).map(drop));
    unsupported(TcpListener::from_std(listener.try_clone().unwrap()).map(drop));
    unsupported(UdpSocket::from_std(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).map(drop));

    let ours = TcpListener::bind(PORT).await.unwrap();
    unsupported(TcpStream::connect(PORT).await.unwrap().into_std().map(drop));
    unsupported(ours.into_std().map(drop));
    unsupported(UdpSocket::bind(PORT).await.unwrap().into_std().map(drop));
    assert!(!is_taken().await, "into_std closes");
}

struct Hosts;

impl Resolver for Hosts {
    fn resolve(&self, host: &str) -> ResolveFuture {
        let host = host.to_owned();
        Box::pin(async move {
            tokio::task::yield_now().await;
            match host.as_str() {
                "server.test" => Ok(vec![
                    IpAddr::from([127, 0, 0, 9]),
                    IpAddr::from([127, 0, 0, 1]),
                ]),
                "nowhere.test" => Ok(Vec::new()),
                _ => Err(io::Error::new(ErrorKind::NotFound, "no such host")),
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn names_go_to_the_stacks_resolver() {
    let stack = Stack::builder().resolver(Hosts).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:4000").await.unwrap();
    // The first address refuses, the second answers.
    let stream = TcpStream::connect("server.test:4000").await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), PORT);
    assert_eq!(
        listener.accept().await.unwrap().1,
        stream.local_addr().unwrap()
    );

    let found: Vec<_> = stack
        .lookup_host(("server.test", 1))
        .await
        .unwrap()
        .collect();
    assert_eq!(
        found,
        [
            SocketAddr::from(([127, 0, 0, 9], 1)),
            SocketAddr::from(([127, 0, 0, 1], 1))
        ]
    );
    assert_eq!(
        TcpStream::connect("other.test:1").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(
        TcpStream::connect("nowhere.test:1")
            .await
            .unwrap_err()
            .kind(),
        ErrorKind::InvalidInput
    );

    let receiver = UdpSocket::bind("127.0.0.9:5000").await.unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    sender.send_to(b"x", "server.test:5000").await.unwrap();
    assert_eq!(receiver.recv(&mut [0; 8]).await.unwrap(), 1);
    sender.connect("server.test:5000").await.unwrap();
    assert_eq!(sender.peer_addr().unwrap(), receiver.local_addr().unwrap());
}

#[tokio::test]
async fn the_hosts_own_names_are_looked_up_by_default() {
    let error = TcpStream::connect("no-such-host.invalid:1")
        .await
        .unwrap_err();
    assert_ne!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[tokio::test]
async fn mistakes_are_told_when_building() {
    let device = || tidewire_netdev::memory::pair(tidewire_netdev::memory::PairConfig::default()).0;
    let builder = || Stack::builder().unregistered();
    let mistakes = [
        builder().address("10.0.0.1/24").build(),
        builder().gateway("10.0.0.1").build(),
        builder().mtu(1500).build(),
        builder().address_by_slaac().build(),
        // No Ethernet: there are no routers to hear.
        builder().device(device()).address_by_slaac().build(),
        builder().device(device()).address("10.0.0.1/33").build(),
        builder()
            .device(device())
            .address("10.0.0.1/24")
            .gateway("ten")
            .build(),
        builder()
            .device(device())
            .address("10.0.0.1/24")
            .gateway("192.0.2.1")
            .build(),
    ];
    for mistake in mistakes {
        assert_eq!(mistake.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn sockets_are_listed() {
    let stack = hidden();
    let listener = stack.tcp_listener(PORT).await.unwrap();
    let client = stack.tcp_stream(PORT).await.unwrap();
    let udp = stack.udp_socket(PORT).await.unwrap();
    let listed = stack.sockets();
    let has = |protocol, local, remote| {
        listed.iter().any(|socket| {
            (socket.protocol, socket.local, socket.remote) == (protocol, local, remote)
        })
    };
    assert!(
        has("tcp", PORT, None) && has("udp", PORT, None),
        "{listed:?}"
    );
    assert!(
        has("tcp", client.local_addr().unwrap(), Some(PORT)),
        "{listed:?}"
    );
    assert!(
        has("tcp", PORT, Some(client.local_addr().unwrap())),
        "{listed:?}"
    );
    drop((listener, client, udp));
    assert!(stack.sockets().is_empty(), "{:?}", stack.sockets());
}

#[tokio::test]
async fn devices_are_the_stacks_interfaces() {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind_device(Some(b"lo")).unwrap();
    assert_eq!(socket.device().unwrap().as_deref(), Some(&b"lo"[..]));
    socket.bind(PORT).unwrap();
    let _listener = socket.listen(1).unwrap();
    assert!(TcpStream::connect(PORT).await.is_ok());

    let socket = TcpSocket::new_v4().unwrap();
    socket.bind_device(Some(b"eth7")).unwrap();
    assert_eq!(
        socket.bind(PORT).unwrap_err().raw_os_error(),
        Some(libc::ENODEV)
    );
    let udp = UdpSocket::bind(PORT).await.unwrap();
    udp.bind_device(Some(b"lo")).unwrap();
    assert_eq!(udp.device().unwrap().as_deref(), Some(&b"lo"[..]));
    udp.bind_device(None).unwrap();
    assert!(udp.device().unwrap().is_none());
}
