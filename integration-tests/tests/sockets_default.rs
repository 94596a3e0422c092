//! The process's default stack: a test of its own process, since the default is every test's.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tidewire::Stack;
use tidewire::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

#[test]
fn the_default_is_found_where_no_other_stack_is() {
    let address: SocketAddr = "127.0.0.1:4000".parse().unwrap();
    let home = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let other = Builder::new_current_thread().enable_time().build().unwrap();
    let stack = home.block_on(async { Stack::builder().build() }).unwrap();
    stack.set_default();

    // Without a runtime, and in one that has no stack.
    let listener = futures::executor::block_on(TcpListener::bind(address)).unwrap();
    let client = other.block_on(TcpStream::connect(address)).unwrap();
    let (_server, peer) = futures::executor::block_on(listener.accept()).unwrap();
    assert_eq!(peer, client.local_addr().unwrap());

    // A runtime's own stack comes first.
    let own = other.block_on(async { Stack::builder().build() }).unwrap();
    let refused = other.block_on(TcpStream::connect(address)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    drop(own);

    // An ended default is none.
    drop((listener, client, _server));
    home.block_on(stack.shutdown());
    let error = futures::executor::block_on(TcpListener::bind(address)).unwrap_err();
    assert!(
        error.to_string().contains("no network stack here"),
        "{error}"
    );
}
