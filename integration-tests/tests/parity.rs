//! The sockets have tokio's surface: one list of typed uses, compiled against `tokio::net` and `tidewire::net`.
//!
//! A method that is missing, or whose signature differs, does not compile. Behaviour is in `sockets_*.rs` and in
//! tokio's own tests (`tokio_suite.rs`).

#![allow(clippy::type_complexity, reason = "the types are the subject")]

use std::fmt::Debug;
use std::future::Future;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};

/// A future of this output, with the auto traits that tokio promises of its own (`async_send_sync.rs`).
fn future<T>(future: impl Future<Output = T> + Send + Sync) {
    drop(future);
}

fn socket<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + Debug>() {}

/// One use. `sync`: the method is exactly this function. `call`: it can be called so (generic methods). `wait`: it can
/// be called so and gives a future of that output.
macro_rules! method {
    (sync $type:ident $name:ident ($signature:ty)) => {
        let _: $signature = $type::$name;
    };
    (call $type:ident $name:ident (($($arg:ident: $of:ty),*) -> $output:ty)) => {
        let _ = |$($arg: $of),*| -> $output { $type::$name($($arg),*) };
    };
    (wait $type:ident $name:ident (($($arg:ident: $of:ty),*) -> $output:ty)) => {
        let _ = |$($arg: $of),*| future::<$output>($type::$name($($arg),*));
    };
}

macro_rules! methods {
    ($($kind:ident $type:ident::$name:ident $signature:tt;)*) => {
        /// Every method used, as (type, name).
        pub(super) const METHODS: &[(&str, &str)] = &[$((stringify!($type), stringify!($name))),*];

        #[test]
        fn methods_have_tokios_signatures() {
            $(method!($kind $type $name $signature);)*
        }
    };
}

macro_rules! surface {
    ($module:ident, $krate:ident) => {
        #[allow(deprecated, reason = "tokio deprecates them, and they are there")]
        mod $module {
            use super::*;
            use ::$krate::net::tcp::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
            use ::$krate::net::{TcpListener, TcpSocket, TcpStream, ToSocketAddrs, UdpSocket, lookup_host};

            methods! {
                wait TcpStream::connect((a: SocketAddr) -> io::Result<TcpStream>);
                sync TcpStream::from_std(fn(std::net::TcpStream) -> io::Result<TcpStream>);
                sync TcpStream::into_std(fn(TcpStream) -> io::Result<std::net::TcpStream>);
                sync TcpStream::local_addr(fn(&TcpStream) -> io::Result<SocketAddr>);
                sync TcpStream::take_error(fn(&TcpStream) -> io::Result<Option<io::Error>>);
                sync TcpStream::peer_addr(fn(&TcpStream) -> io::Result<SocketAddr>);
                sync TcpStream::poll_peek(fn(&TcpStream, &mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<usize>>);
                wait TcpStream::ready((s: &TcpStream, i: Interest) -> io::Result<Ready>);
                wait TcpStream::readable((s: &TcpStream) -> io::Result<()>);
                sync TcpStream::poll_read_ready(fn(&TcpStream, &mut Context<'_>) -> Poll<io::Result<()>>);
                sync TcpStream::try_read(fn(&TcpStream, &mut [u8]) -> io::Result<usize>);
                sync TcpStream::try_read_vectored(fn(&TcpStream, &mut [IoSliceMut<'_>]) -> io::Result<usize>);
                call TcpStream::try_read_buf((s: &TcpStream, b: &mut Vec<u8>) -> io::Result<usize>);
                wait TcpStream::writable((s: &TcpStream) -> io::Result<()>);
                sync TcpStream::poll_write_ready(fn(&TcpStream, &mut Context<'_>) -> Poll<io::Result<()>>);
                sync TcpStream::try_write(fn(&TcpStream, &[u8]) -> io::Result<usize>);
                sync TcpStream::try_write_vectored(fn(&TcpStream, &[IoSlice<'_>]) -> io::Result<usize>);
                call TcpStream::try_io((s: &TcpStream, i: Interest, f: fn() -> io::Result<u8>) -> io::Result<u8>);
                wait TcpStream::async_io((s: &TcpStream, i: Interest, f: fn() -> io::Result<u8>) -> io::Result<u8>);
                wait TcpStream::peek((s: &TcpStream, b: &mut [u8]) -> io::Result<usize>);
                sync TcpStream::nodelay(fn(&TcpStream) -> io::Result<bool>);
                sync TcpStream::set_nodelay(fn(&TcpStream, bool) -> io::Result<()>);
                sync TcpStream::quickack(fn(&TcpStream) -> io::Result<bool>);
                sync TcpStream::set_quickack(fn(&TcpStream, bool) -> io::Result<()>);
                sync TcpStream::linger(fn(&TcpStream) -> io::Result<Option<Duration>>);
                sync TcpStream::set_linger(fn(&TcpStream, Option<Duration>) -> io::Result<()>);
                sync TcpStream::set_zero_linger(fn(&TcpStream) -> io::Result<()>);
                sync TcpStream::ttl(fn(&TcpStream) -> io::Result<u32>);
                sync TcpStream::set_ttl(fn(&TcpStream, u32) -> io::Result<()>);
                sync TcpStream::split(fn(&mut TcpStream) -> (ReadHalf<'_>, WriteHalf<'_>));
                sync TcpStream::into_split(fn(TcpStream) -> (OwnedReadHalf, OwnedWriteHalf));

                wait TcpListener::bind((a: SocketAddr) -> io::Result<TcpListener>);
                wait TcpListener::accept((l: &TcpListener) -> io::Result<(TcpStream, SocketAddr)>);
                sync TcpListener::poll_accept(fn(&TcpListener, &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>>);
                sync TcpListener::from_std(fn(std::net::TcpListener) -> io::Result<TcpListener>);
                sync TcpListener::into_std(fn(TcpListener) -> io::Result<std::net::TcpListener>);
                sync TcpListener::local_addr(fn(&TcpListener) -> io::Result<SocketAddr>);
                sync TcpListener::ttl(fn(&TcpListener) -> io::Result<u32>);
                sync TcpListener::set_ttl(fn(&TcpListener, u32) -> io::Result<()>);

                sync TcpSocket::new_v4(fn() -> io::Result<TcpSocket>);
                sync TcpSocket::new_v6(fn() -> io::Result<TcpSocket>);
                sync TcpSocket::set_keepalive(fn(&TcpSocket, bool) -> io::Result<()>);
                sync TcpSocket::keepalive(fn(&TcpSocket) -> io::Result<bool>);
                sync TcpSocket::set_reuseaddr(fn(&TcpSocket, bool) -> io::Result<()>);
                sync TcpSocket::reuseaddr(fn(&TcpSocket) -> io::Result<bool>);
                sync TcpSocket::set_reuseport(fn(&TcpSocket, bool) -> io::Result<()>);
                sync TcpSocket::reuseport(fn(&TcpSocket) -> io::Result<bool>);
                sync TcpSocket::set_send_buffer_size(fn(&TcpSocket, u32) -> io::Result<()>);
                sync TcpSocket::send_buffer_size(fn(&TcpSocket) -> io::Result<u32>);
                sync TcpSocket::set_recv_buffer_size(fn(&TcpSocket, u32) -> io::Result<()>);
                sync TcpSocket::recv_buffer_size(fn(&TcpSocket) -> io::Result<u32>);
                sync TcpSocket::set_linger(fn(&TcpSocket, Option<Duration>) -> io::Result<()>);
                sync TcpSocket::set_zero_linger(fn(&TcpSocket) -> io::Result<()>);
                sync TcpSocket::linger(fn(&TcpSocket) -> io::Result<Option<Duration>>);
                sync TcpSocket::set_nodelay(fn(&TcpSocket, bool) -> io::Result<()>);
                sync TcpSocket::nodelay(fn(&TcpSocket) -> io::Result<bool>);
                sync TcpSocket::tclass_v6(fn(&TcpSocket) -> io::Result<u32>);
                sync TcpSocket::set_tclass_v6(fn(&TcpSocket, u32) -> io::Result<()>);
                sync TcpSocket::tos_v4(fn(&TcpSocket) -> io::Result<u32>);
                sync TcpSocket::tos(fn(&TcpSocket) -> io::Result<u32>);
                sync TcpSocket::set_tos_v4(fn(&TcpSocket, u32) -> io::Result<()>);
                sync TcpSocket::set_tos(fn(&TcpSocket, u32) -> io::Result<()>);
                sync TcpSocket::device(fn(&TcpSocket) -> io::Result<Option<Vec<u8>>>);
                sync TcpSocket::bind_device(fn(&TcpSocket, Option<&[u8]>) -> io::Result<()>);
                sync TcpSocket::local_addr(fn(&TcpSocket) -> io::Result<SocketAddr>);
                sync TcpSocket::take_error(fn(&TcpSocket) -> io::Result<Option<io::Error>>);
                sync TcpSocket::bind(fn(&TcpSocket, SocketAddr) -> io::Result<()>);
                wait TcpSocket::connect((s: TcpSocket, a: SocketAddr) -> io::Result<TcpStream>);
                sync TcpSocket::listen(fn(TcpSocket, u32) -> io::Result<TcpListener>);
                sync TcpSocket::from_std_stream(fn(std::net::TcpStream) -> TcpSocket);

                sync ReadHalf::poll_peek(fn(&mut ReadHalf<'static>, &mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<usize>>);
                wait ReadHalf::peek((h: &mut ReadHalf<'_>, b: &mut [u8]) -> io::Result<usize>);
                wait ReadHalf::ready((h: &ReadHalf<'_>, i: Interest) -> io::Result<Ready>);
                wait ReadHalf::readable((h: &ReadHalf<'_>) -> io::Result<()>);
                sync ReadHalf::try_read(fn(&ReadHalf<'static>, &mut [u8]) -> io::Result<usize>);
                sync ReadHalf::try_read_vectored(fn(&ReadHalf<'static>, &mut [IoSliceMut<'_>]) -> io::Result<usize>);
                call ReadHalf::try_read_buf((h: &ReadHalf<'_>, b: &mut Vec<u8>) -> io::Result<usize>);
                sync ReadHalf::peer_addr(fn(&ReadHalf<'static>) -> io::Result<SocketAddr>);
                sync ReadHalf::local_addr(fn(&ReadHalf<'static>) -> io::Result<SocketAddr>);
                wait WriteHalf::ready((h: &WriteHalf<'_>, i: Interest) -> io::Result<Ready>);
                wait WriteHalf::writable((h: &WriteHalf<'_>) -> io::Result<()>);
                sync WriteHalf::try_write(fn(&WriteHalf<'static>, &[u8]) -> io::Result<usize>);
                sync WriteHalf::try_write_vectored(fn(&WriteHalf<'static>, &[IoSlice<'_>]) -> io::Result<usize>);
                sync WriteHalf::peer_addr(fn(&WriteHalf<'static>) -> io::Result<SocketAddr>);
                sync WriteHalf::local_addr(fn(&WriteHalf<'static>) -> io::Result<SocketAddr>);

                sync OwnedReadHalf::reunite(fn(OwnedReadHalf, OwnedWriteHalf) -> Result<TcpStream, ReuniteError>);
                sync OwnedReadHalf::poll_peek(fn(&mut OwnedReadHalf, &mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<usize>>);
                wait OwnedReadHalf::peek((h: &mut OwnedReadHalf, b: &mut [u8]) -> io::Result<usize>);
                wait OwnedReadHalf::ready((h: &OwnedReadHalf, i: Interest) -> io::Result<Ready>);
                wait OwnedReadHalf::readable((h: &OwnedReadHalf) -> io::Result<()>);
                sync OwnedReadHalf::try_read(fn(&OwnedReadHalf, &mut [u8]) -> io::Result<usize>);
                sync OwnedReadHalf::try_read_vectored(fn(&OwnedReadHalf, &mut [IoSliceMut<'_>]) -> io::Result<usize>);
                call OwnedReadHalf::try_read_buf((h: &OwnedReadHalf, b: &mut Vec<u8>) -> io::Result<usize>);
                sync OwnedReadHalf::peer_addr(fn(&OwnedReadHalf) -> io::Result<SocketAddr>);
                sync OwnedReadHalf::local_addr(fn(&OwnedReadHalf) -> io::Result<SocketAddr>);
                sync OwnedWriteHalf::reunite(fn(OwnedWriteHalf, OwnedReadHalf) -> Result<TcpStream, ReuniteError>);
                sync OwnedWriteHalf::forget(fn(OwnedWriteHalf));
                wait OwnedWriteHalf::ready((h: &OwnedWriteHalf, i: Interest) -> io::Result<Ready>);
                wait OwnedWriteHalf::writable((h: &OwnedWriteHalf) -> io::Result<()>);
                sync OwnedWriteHalf::try_write(fn(&OwnedWriteHalf, &[u8]) -> io::Result<usize>);
                sync OwnedWriteHalf::try_write_vectored(fn(&OwnedWriteHalf, &[IoSlice<'_>]) -> io::Result<usize>);
                sync OwnedWriteHalf::peer_addr(fn(&OwnedWriteHalf) -> io::Result<SocketAddr>);
                sync OwnedWriteHalf::local_addr(fn(&OwnedWriteHalf) -> io::Result<SocketAddr>);

                wait UdpSocket::bind((a: SocketAddr) -> io::Result<UdpSocket>);
                sync UdpSocket::from_std(fn(std::net::UdpSocket) -> io::Result<UdpSocket>);
                sync UdpSocket::into_std(fn(UdpSocket) -> io::Result<std::net::UdpSocket>);
                sync UdpSocket::local_addr(fn(&UdpSocket) -> io::Result<SocketAddr>);
                sync UdpSocket::peer_addr(fn(&UdpSocket) -> io::Result<SocketAddr>);
                wait UdpSocket::connect((s: &UdpSocket, a: SocketAddr) -> io::Result<()>);
                wait UdpSocket::ready((s: &UdpSocket, i: Interest) -> io::Result<Ready>);
                wait UdpSocket::writable((s: &UdpSocket) -> io::Result<()>);
                sync UdpSocket::poll_send_ready(fn(&UdpSocket, &mut Context<'_>) -> Poll<io::Result<()>>);
                wait UdpSocket::send((s: &UdpSocket, b: &[u8]) -> io::Result<usize>);
                sync UdpSocket::poll_send(fn(&UdpSocket, &mut Context<'_>, &[u8]) -> Poll<io::Result<usize>>);
                sync UdpSocket::try_send(fn(&UdpSocket, &[u8]) -> io::Result<usize>);
                wait UdpSocket::readable((s: &UdpSocket) -> io::Result<()>);
                sync UdpSocket::poll_recv_ready(fn(&UdpSocket, &mut Context<'_>) -> Poll<io::Result<()>>);
                wait UdpSocket::recv((s: &UdpSocket, b: &mut [u8]) -> io::Result<usize>);
                sync UdpSocket::poll_recv(fn(&UdpSocket, &mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<()>>);
                sync UdpSocket::try_recv(fn(&UdpSocket, &mut [u8]) -> io::Result<usize>);
                call UdpSocket::try_recv_buf((s: &UdpSocket, b: &mut Vec<u8>) -> io::Result<usize>);
                wait UdpSocket::recv_buf((s: &UdpSocket, b: &mut Vec<u8>) -> io::Result<usize>);
                call UdpSocket::try_recv_buf_from((s: &UdpSocket, b: &mut Vec<u8>) -> io::Result<(usize, SocketAddr)>);
                wait UdpSocket::recv_buf_from((s: &UdpSocket, b: &mut Vec<u8>) -> io::Result<(usize, SocketAddr)>);
                wait UdpSocket::send_to((s: &UdpSocket, b: &[u8], a: SocketAddr) -> io::Result<usize>);
                sync UdpSocket::poll_send_to(fn(&UdpSocket, &mut Context<'_>, &[u8], SocketAddr) -> Poll<io::Result<usize>>);
                sync UdpSocket::try_send_to(fn(&UdpSocket, &[u8], SocketAddr) -> io::Result<usize>);
                wait UdpSocket::recv_from((s: &UdpSocket, b: &mut [u8]) -> io::Result<(usize, SocketAddr)>);
                sync UdpSocket::poll_recv_from(fn(&UdpSocket, &mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<SocketAddr>>);
                sync UdpSocket::try_recv_from(fn(&UdpSocket, &mut [u8]) -> io::Result<(usize, SocketAddr)>);
                call UdpSocket::try_io((s: &UdpSocket, i: Interest, f: fn() -> io::Result<u8>) -> io::Result<u8>);
                wait UdpSocket::async_io((s: &UdpSocket, i: Interest, f: fn() -> io::Result<u8>) -> io::Result<u8>);
                wait UdpSocket::peek((s: &UdpSocket, b: &mut [u8]) -> io::Result<usize>);
                sync UdpSocket::poll_peek(fn(&UdpSocket, &mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<()>>);
                sync UdpSocket::try_peek(fn(&UdpSocket, &mut [u8]) -> io::Result<usize>);
                wait UdpSocket::peek_from((s: &UdpSocket, b: &mut [u8]) -> io::Result<(usize, SocketAddr)>);
                sync UdpSocket::poll_peek_from(fn(&UdpSocket, &mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<SocketAddr>>);
                sync UdpSocket::try_peek_from(fn(&UdpSocket, &mut [u8]) -> io::Result<(usize, SocketAddr)>);
                wait UdpSocket::peek_sender((s: &UdpSocket) -> io::Result<SocketAddr>);
                sync UdpSocket::poll_peek_sender(fn(&UdpSocket, &mut Context<'_>) -> Poll<io::Result<SocketAddr>>);
                sync UdpSocket::try_peek_sender(fn(&UdpSocket) -> io::Result<SocketAddr>);
                sync UdpSocket::broadcast(fn(&UdpSocket) -> io::Result<bool>);
                sync UdpSocket::set_broadcast(fn(&UdpSocket, bool) -> io::Result<()>);
                sync UdpSocket::multicast_loop_v4(fn(&UdpSocket) -> io::Result<bool>);
                sync UdpSocket::set_multicast_loop_v4(fn(&UdpSocket, bool) -> io::Result<()>);
                sync UdpSocket::multicast_ttl_v4(fn(&UdpSocket) -> io::Result<u32>);
                sync UdpSocket::set_multicast_ttl_v4(fn(&UdpSocket, u32) -> io::Result<()>);
                sync UdpSocket::multicast_loop_v6(fn(&UdpSocket) -> io::Result<bool>);
                sync UdpSocket::set_multicast_loop_v6(fn(&UdpSocket, bool) -> io::Result<()>);
                sync UdpSocket::tclass_v6(fn(&UdpSocket) -> io::Result<u32>);
                sync UdpSocket::set_tclass_v6(fn(&UdpSocket, u32) -> io::Result<()>);
                sync UdpSocket::ttl(fn(&UdpSocket) -> io::Result<u32>);
                sync UdpSocket::set_ttl(fn(&UdpSocket, u32) -> io::Result<()>);
                sync UdpSocket::tos_v4(fn(&UdpSocket) -> io::Result<u32>);
                sync UdpSocket::tos(fn(&UdpSocket) -> io::Result<u32>);
                sync UdpSocket::set_tos_v4(fn(&UdpSocket, u32) -> io::Result<()>);
                sync UdpSocket::set_tos(fn(&UdpSocket, u32) -> io::Result<()>);
                sync UdpSocket::device(fn(&UdpSocket) -> io::Result<Option<Vec<u8>>>);
                sync UdpSocket::bind_device(fn(&UdpSocket, Option<&[u8]>) -> io::Result<()>);
                sync UdpSocket::join_multicast_v4(fn(&UdpSocket, Ipv4Addr, Ipv4Addr) -> io::Result<()>);
                sync UdpSocket::join_multicast_v6(fn(&UdpSocket, &Ipv6Addr, u32) -> io::Result<()>);
                sync UdpSocket::leave_multicast_v4(fn(&UdpSocket, Ipv4Addr, Ipv4Addr) -> io::Result<()>);
                sync UdpSocket::leave_multicast_v6(fn(&UdpSocket, &Ipv6Addr, u32) -> io::Result<()>);
                sync UdpSocket::take_error(fn(&UdpSocket) -> io::Result<Option<io::Error>>);
            }

            #[test]
            fn types_have_tokios_traits() {
                socket::<TcpStream>();
                socket::<TcpListener>();
                socket::<TcpSocket>();
                socket::<UdpSocket>();
                socket::<OwnedReadHalf>();
                socket::<OwnedWriteHalf>();
                socket::<ReuniteError>();
                socket::<ReadHalf<'static>>();
                socket::<WriteHalf<'static>>();

                fn reads<T: AsyncRead>() {}
                fn writes<T: AsyncWrite>() {}
                reads::<TcpStream>();
                reads::<OwnedReadHalf>();
                reads::<ReadHalf<'static>>();
                writes::<TcpStream>();
                writes::<OwnedWriteHalf>();
                writes::<WriteHalf<'static>>();

                fn is_a_stream<T: AsRef<TcpStream>>() {}
                is_a_stream::<TcpStream>();
                is_a_stream::<OwnedReadHalf>();
                is_a_stream::<OwnedWriteHalf>();
                is_a_stream::<ReadHalf<'static>>();
                is_a_stream::<WriteHalf<'static>>();

                fn converts<T: TryFrom<S, Error = io::Error>, S>() {}
                converts::<TcpStream, std::net::TcpStream>();
                converts::<TcpListener, std::net::TcpListener>();
                converts::<UdpSocket, std::net::UdpSocket>();

                fn is_an_error<T: std::error::Error>() {}
                is_an_error::<ReuniteError>();
                let _: fn(OwnedReadHalf, OwnedWriteHalf) -> ReuniteError = ReuniteError;
            }

            #[test]
            fn the_same_arguments_name_addresses() {
                fn names<T: ToSocketAddrs + ?Sized>() {}
                names::<SocketAddr>();
                names::<SocketAddrV4>();
                names::<SocketAddrV6>();
                names::<(IpAddr, u16)>();
                names::<(Ipv4Addr, u16)>();
                names::<(Ipv6Addr, u16)>();
                names::<&[SocketAddr]>();
                names::<str>();
                names::<(&str, u16)>();
                names::<String>();
                names::<(String, u16)>();
                names::<&&SocketAddr>();
                names::<&str>();

                let _ = |host: &str| {
                    future(async {
                        let found = lookup_host(host).await;
                        found.map(|found| found.collect::<Vec<SocketAddr>>())
                    });
                };
            }

            #[cfg(unix)]
            #[test]
            fn unix_sockets_are_there() {
                use ::$krate::net::{UnixDatagram, UnixListener, UnixSocket, UnixStream, unix};
                socket::<UnixDatagram>();
                socket::<UnixListener>();
                socket::<UnixStream>();
                let _: fn() -> io::Result<UnixSocket> = UnixSocket::new_stream;
                let _: fn() -> io::Result<(unix::pipe::Sender, unix::pipe::Receiver)> = unix::pipe::pipe;
            }
        }
    };
}

surface!(kernel, tokio);
surface!(user_space, tidewire);

#[test]
fn the_list_is_complete() {
    // As many as tokio 1.54 has, counted in its source; each once.
    let expected = [
        ("TcpStream", 31),
        ("TcpListener", 8),
        ("TcpSocket", 31),
        ("ReadHalf", 9),
        ("WriteHalf", 6),
        ("OwnedReadHalf", 10),
        ("OwnedWriteHalf", 8),
        ("UdpSocket", 61),
    ];
    for (kind, count) in expected {
        let mut names: Vec<_> = kernel::METHODS
            .iter()
            .filter(|(of, _)| *of == kind)
            .map(|(_, name)| name)
            .collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{kind}");
    }
    assert_eq!(kernel::METHODS, user_space::METHODS);
}
