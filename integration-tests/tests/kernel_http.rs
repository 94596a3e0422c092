//! The main job: an axum server on the stack, fetched by curl through the kernel.

#![cfg(target_os = "linux")]

use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::StreamExt;
use futures::future::join_all;
use sha2::{Digest, Sha256};
use tidewire_integration_tests::bodies::{body, hash};
use tidewire_integration_tests::exchange::receive;
use tidewire_integration_tests::kernel::{Family, Link, LinkConfig, on_each_family};
use tidewire_integration_tests::namespace::announce;
use tidewire_integration_tests::requirements::{missing_program, skip};
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(60);
const MIB: usize = 1 << 20;

/// `len` octets that repeat with a period that is no power of two.
fn pattern(len: usize) -> impl Iterator<Item = Bytes> {
    let chunk: Bytes = (0..251 * 1024).map(|i| (i % 251) as u8).collect();
    let mut left = len;
    std::iter::from_fn(move || {
        let now = left.min(chunk.len());
        left -= now;
        (now > 0).then(|| chunk.slice(..now))
    })
}

fn pattern_hash(len: usize) -> [u8; 32] {
    let mut hash = Sha256::new();
    pattern(len).for_each(|chunk| hash.update(&chunk));
    hash.finalize().into()
}

fn router() -> Router {
    let bytes = async |Path(len): Path<usize>| -> Response {
        let chunks = futures::stream::iter(pattern(len)).map(io::Result::Ok);
        let length = [(header::CONTENT_LENGTH, len.to_string())];
        (length, Body::from_stream(chunks)).into_response()
    };
    let echo = async |body: Body| -> String {
        let mut hash = Sha256::new();
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            hash.update(chunk.expect("a whole body"));
        }
        hash.finalize()
            .iter()
            .map(|octet| format!("{octet:02x}"))
            .collect()
    };
    Router::new()
        .route("/bytes/{len}", get(bytes))
        .route("/echo", post(echo))
}

/// A server on port 80 of the stack, for as long as the runtime lives.
async fn serve(link: &Link, family: Family) -> String {
    let listener = link
        .stack
        .tcp_listener((family.stack(), 80))
        .await
        .expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(axum::serve(listener, router()).into_future());
    url
}

fn curl(arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    // Proxies of the machine have no business here.
    command
        .args(["--silent", "--show-error", "--fail", "--noproxy", "*"])
        .args(arguments);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Fetches and hashes; the server's body must have arrived whole.
async fn fetch(url: &str, len: usize) {
    let mut child = curl(&[&format!("{url}/bytes/{len}")])
        .spawn()
        .expect("curl");
    let mut stdout = child.stdout.take().expect("piped");
    let got = receive(&mut stdout).await.expect("a pipe");
    assert!(
        child.wait().await.expect("curl").success(),
        "curl fetched {} octets",
        got.len
    );
    assert_eq!((got.len, got.hash), (len, pattern_hash(len)));
}

/// The kernel's own tool agrees that nothing was bad.
async fn assert_nstat_is_clean() {
    let output = Command::new("nstat")
        .args(["-asz", "TcpInErrs", "TcpInCsumErrors"])
        .output()
        .await;
    let output = output.expect("nstat");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for name in ["TcpInErrs", "TcpInCsumErrors"] {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        assert_eq!(value, Some("0"), "{text}");
    }
}

fn missing() -> Option<String> {
    missing_program("curl").or_else(|| missing_program("nstat"))
}

#[test]
fn curl_fetches_and_posts_large_bodies() {
    const TEST: &str = "curl_fetches_and_posts_large_bodies";
    if let Some(reason) = missing() {
        return skip(TEST, &reason);
    }
    // By hand: TIDEWIRE_BODY_MIB=1024.
    let asked = std::env::var("TIDEWIRE_BODY_MIB").ok();
    let asked = asked.and_then(|text| text.parse::<usize>().ok());
    let large = asked.unwrap_or(64) * MIB;
    for (offload, size) in [(true, large), (false, 16 * MIB)] {
        let config = LinkConfig {
            offload,
            ..LinkConfig::default()
        };
        let test = format!("{TEST}, offload {offload}");
        on_each_family(&test, LIMIT, &config, async move |link, family| {
            let url = serve(link, family).await;
            let started = Instant::now();
            fetch(&url, size).await;
            let rate = size as f64 / started.elapsed().as_secs_f64() / 1e6;
            announce(&format!(
                "GET {size} octets, {family:?}, offload {offload}: {rate:.0} MB/s"
            ));

            let size = size.min(64 * MIB);
            let upload = body(12, size);
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("upload");
            std::fs::write(&path, &upload).expect("written");
            let data = format!("@{}", path.display());
            let started = Instant::now();
            let output = curl(&["--data-binary", &data, &format!("{url}/echo")])
                .output()
                .await;
            let output = output.expect("curl");
            assert!(output.status.success(), "{output:?}");
            let rate = size as f64 / started.elapsed().as_secs_f64() / 1e6;
            announce(&format!(
                "POST {size} octets, {family:?}, offload {offload}: {rate:.0} MB/s"
            ));
            assert_eq!(String::from_utf8_lossy(&output.stdout), hash(&upload));
            assert_nstat_is_clean().await;
            if offload {
                let (read, written) = (link.meter().largest_read(), link.meter().largest_write());
                assert!(read > 60 * 1024, "the largest read was {read} octets");
                assert!(
                    written > 60 * 1024,
                    "the largest write was {written} octets"
                );
            }
        });
    }
}

#[test]
fn many_curls_at_once() {
    const TEST: &str = "many_curls_at_once";
    if let Some(reason) = missing() {
        return skip(TEST, &reason);
    }
    on_each_family(TEST, LIMIT, &LinkConfig::default(), async |link, family| {
        let url = serve(link, family).await;
        join_all((0..12).map(|index| fetch(&url, index * 700_001))).await;
        assert_nstat_is_clean().await;
    });
}

#[test]
fn one_curl_fetches_many_bodies_over_one_connection() {
    const TEST: &str = "one_curl_fetches_many_bodies_over_one_connection";
    if let Some(reason) = missing() {
        return skip(TEST, &reason);
    }
    on_each_family(TEST, LIMIT, &LinkConfig::default(), async |link, family| {
        let url = serve(link, family).await;
        let before = link.counted("TcpActiveOpens");
        let lens = [0, 1, 1000, 100_000, 3_000_000];
        let urls: Vec<String> = lens
            .iter()
            .map(|len| format!("{url}/bytes/{len}"))
            .collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let output = curl(&urls).output().await.expect("curl");
        assert!(output.status.success(), "{output:?}");
        let expected: Vec<u8> = lens
            .iter()
            .flat_map(|&len| pattern(len))
            .flatten()
            .collect();
        assert!(output.stdout == expected, "{} octets", output.stdout.len());
        assert_eq!(link.counted("TcpActiveOpens") - before, 1, "connections");
    });
}

/// A client that reads slowly, and one that goes away in the middle: the server serves the next one.
#[test]
fn slow_and_impatient_curls_do_no_harm() {
    const TEST: &str = "slow_and_impatient_curls_do_no_harm";
    if let Some(reason) = missing() {
        return skip(TEST, &reason);
    }
    on_each_family(TEST, LIMIT, &LinkConfig::default(), async |link, family| {
        let url = serve(link, family).await;
        let large = format!("{url}/bytes/{}", 256 * MIB);
        for arguments in [
            &["--max-time", "0.3"][..],
            &["--limit-rate", "1M", "--max-time", "2"],
        ] {
            let mut command = curl(arguments);
            command
                .arg(&large)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let status = command.status().await.expect("curl");
            const OPERATION_TIMEDOUT: i32 = 28;
            let all = status.success();
            assert!(all || status.code() == Some(OPERATION_TIMEDOUT), "{status}");
        }
        fetch(&url, MIB).await;
        let connections = || link.stack.sockets().len();
        for _ in 0..200 {
            if connections() == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(
            connections(),
            1,
            "only the listener is left: {}",
            link.report()
        );
    });
}
