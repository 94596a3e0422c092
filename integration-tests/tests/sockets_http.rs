//! The crates that take a listener or a stream: axum serves, hyper-util fetches.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::Uri;
use axum::routing::{get, post};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tidewire::net::{TcpListener, TcpStream};

/// A connector: what hyper-util asks of it is a stream with `Connection`.
#[derive(Clone)]
struct Connect;

impl tower_service::Service<Uri> for Connect {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
            TcpStream::connect(authority).await.map(TokioIo::new)
        })
    }
}

#[tokio::test]
async fn axum_serves_and_hyper_util_fetches() -> Result<(), Infallible> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/echo", post(|body: axum::body::Bytes| async move { body }));
    tokio::spawn(async move { axum::serve(listener, routes).await });

    let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build(Connect);
    let response = client
        .get(format!("http://{address}/").parse().unwrap())
        .await
        .unwrap();
    assert!(response.status().is_success());
    let body = to_bytes(Body::new(response.into_body()), usize::MAX)
        .await
        .unwrap();
    assert_eq!(body, "hello");

    let sent = vec![42_u8; 1 << 20];
    let request = axum::http::Request::post(format!("http://{address}/echo"))
        .body(Body::from(sent.clone()))
        .unwrap();
    let response = client.request(request).await.unwrap();
    let body = to_bytes(Body::new(response.into_body()), usize::MAX)
        .await
        .unwrap();
    assert_eq!(body, sent);
    Ok(())
}
