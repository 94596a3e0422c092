//! A web server on our own TCP: axum, with nothing changed but the listener.
//!
//! ```text
//! http --tun tw0 --address 10.7.0.2/24 --kernel-address 10.7.0.1/24 &
//! curl http://10.7.0.2/
//! curl http://10.7.0.2/bytes/1000000 | sha256sum      # octet i is i mod 251
//! curl --data-binary @FILE http://10.7.0.2/echo       # the SHA-256 of FILE
//! ```

use std::process::ExitCode;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use clap::Parser;
use futures::{StreamExt, stream};
use sha2::{Digest, Sha256};
use tidewire::net::TcpListener;
use tidewire_examples::{StackFlags, run};

/// A web server: GET /, GET /bytes/N, POST /echo
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    stack: StackFlags,

    /// TCP port
    #[arg(long, default_value_t = 80)]
    port: u16,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    run(&flags.stack, async |running| {
        let listener = TcpListener::bind(running.listen_address(flags.port)).await?;
        running.listening(flags.port)?;
        let listener = listener.tap_io(|stream| {
            // Fails on a connection that is reset already; serving finds out by itself.
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, router()).await?;
        Ok(())
    })
}

fn router() -> Router {
    Router::new()
        .route("/", get(async || "Hello from a TCP stack in user space.\n"))
        .route("/bytes/{n}", get(bytes))
        .route("/echo", post(echo))
}

/// `n` octets, each its offset modulo 251, all of them slices of one chunk: nothing is copied here.
async fn bytes(Path(n): Path<u64>) -> Response {
    /// A multiple of 251, so that chunks join seamlessly; a quarter of a MiB.
    const CHUNK: u64 = 251 * 1024;
    let chunk: Bytes = (0..CHUNK).map(|i| (i % 251) as u8).collect();
    let chunks = stream::unfold(n, move |left| {
        let len = left.min(CHUNK);
        let slice = chunk.slice(..len as usize);
        async move { (len > 0).then_some((Ok::<_, std::io::Error>(slice), left - len)) }
    });
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, n.to_string()),
    ];
    (headers, Body::from_stream(chunks)).into_response()
}

/// The SHA-256 of the body, in hexadecimal. The body is never held as a whole.
async fn echo(body: Body) -> Result<String, (StatusCode, String)> {
    let mut hash = Sha256::new();
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        hash.update(chunk.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?);
    }
    let hash = hash.finalize();
    Ok(hash.iter().map(|octet| format!("{octet:02x}")).collect())
}
