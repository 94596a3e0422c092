//! Kernels that are set up otherwise: without timestamps, SACK or window scaling, with ECN, SYN cookies, Fast Open, Multipath
//! TCP, other congestion controllers. What we do not speak must be declined without harm.

#![cfg(target_os = "linux")]

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tidewire_integration_tests::bodies::{body, hash};
use tidewire_integration_tests::exchange::exchange;
use tidewire_integration_tests::kernel::{
    Family, Link, LinkConfig, Role, kernel_listen, kernel_socket, on_each_family,
};
use tidewire_integration_tests::namespace::{Flavor, announce, run, set_sysctl};
use tidewire_integration_tests::requirements::{missing_program, skip};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(30);
const MIB: usize = 1 << 20;

/// Both ways at once on a connection of each role.
async fn both_roles(link: &Link, family: Family, case: &str, size: usize) {
    for role in Role::ALL {
        let (mut ours, mut kernel) = link.connected(role, family).await;
        let (up, down) = (body(1, size), body(2, size));
        let both = exchange(&mut ours, &mut kernel, &up, &down);
        let both = link
            .within(LIMIT / 4, &format!("{case} {role:?}"), both)
            .await;
        both.unwrap_or_else(|error| panic!("{case} {role:?}: {error}\n{}", link.report()));
    }
}

// RFC 7323, RFC 2018: each option is used only if both SYNs had it, and the others do not depend on it.
#[test]
fn every_subset_of_options_works() {
    const SETTINGS: [&str; 3] = ["tcp_timestamps", "tcp_sack", "tcp_window_scaling"];
    let test = "every_subset_of_options_works";
    on_each_family(
        test,
        LIMIT * 2,
        &LinkConfig::default(),
        async |link, family| {
            for subset in 0..8 {
                for (bit, setting) in SETTINGS.iter().enumerate() {
                    set_sysctl(
                        &format!("ipv4/{setting}"),
                        if subset >> bit & 1 == 1 { "1" } else { "0" },
                    );
                }
                both_roles(link, family, &format!("options {subset:03b}"), 2 * MIB).await;
                let (ours, _kernel) = link.connected(Role::StackListens, family).await;
                let info = ours.info();
                let settled = (info.timestamps, info.sack, info.window_scale.is_some());
                assert_eq!(settled, (subset & 1 == 1, subset & 2 == 2, subset & 4 == 4));
            }
            for setting in SETTINGS {
                set_sysctl(&format!("ipv4/{setting}"), "1");
            }
        },
    );
}

#[test]
fn our_own_subsets_of_options_work() {
    let mut cases = 0;
    for subset in 0..8 {
        let mut config = LinkConfig::default();
        config.tcp.timestamps = subset & 1 == 1;
        config.tcp.sack = subset & 2 == 2;
        config.tcp.window_scaling = subset & 4 == 4;
        run(
            "our_own_subsets_of_options_work",
            Flavor::CurrentThread,
            LIMIT,
            async move || {
                let link = Link::start(&config).await;
                both_roles(&link, Family::V4, &format!("ours {subset:03b}"), 2 * MIB).await;
                link.assert_clean();
            },
        );
        cases += 1;
    }
    announce(&format!(
        "kernel: {cases} cases (our_own_subsets_of_options_work)"
    ));
}

// RFC 3168 6.1.1: a SYN that asks for ECN is an ordinary SYN to a host that does not answer so. 3 and 4 are AccECN
// (RFC 9768), which not every kernel has.
#[test]
fn kernels_that_ask_for_ecn_are_served() {
    let test = "kernels_that_ask_for_ecn_are_served";
    on_each_family(test, LIMIT, &LinkConfig::default(), async |link, family| {
        for ecn in ["0", "1", "3", "4"] {
            if ecn >= "3" && std::fs::write("/proc/sys/net/ipv4/tcp_ecn", ecn).is_err() {
                announce(&format!("this kernel does not know tcp_ecn {ecn}"));
                continue;
            }
            set_sysctl("ipv4/tcp_ecn", ecn);
            both_roles(link, family, &format!("tcp_ecn {ecn}"), 4 * MIB).await;
        }
    });
}

// RFC 4987 3.6: the kernel keeps nothing of our SYN, and takes what it needs from our ACK.
#[test]
fn kernels_with_syn_cookies_are_reached() {
    let test = "kernels_with_syn_cookies_are_reached";
    on_each_family(test, LIMIT, &LinkConfig::default(), async |link, family| {
        set_sysctl("ipv4/tcp_syncookies", "2");
        both_roles(link, family, "cookies", 4 * MIB).await;
        assert!(
            link.counted("TcpExtSyncookiesRecv") > 0,
            "{}",
            link.report()
        );
        assert_eq!(link.counted("TcpExtSyncookiesFailed"), 0);
    });
}

#[test]
fn every_congestion_controller_of_the_kernel_works() {
    let test = "every_congestion_controller_of_the_kernel_works";
    on_each_family(test, LIMIT, &LinkConfig::default(), async |link, family| {
        let known = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
        for name in known.expect("readable").split_whitespace() {
            let listener = kernel_listen(SocketAddr::new(family.kernel(), 0));
            SockRef::from(&listener)
                .set_tcp_congestion(name.as_bytes())
                .expect("available");
            let address = listener.local_addr().expect("bound");
            let (ours, kernel) = tokio::join!(link.stack.tcp_stream(address), listener.accept());
            let (mut ours, mut kernel) = (ours.expect("connected"), kernel.expect("accepted").0);
            let (up, down) = (body(3, 8 * MIB), body(4, 8 * MIB));
            let both = exchange(&mut ours, &mut kernel, &up, &down);
            link.within(LIMIT / 3, name, both).await.expect("alive");
        }
    });
}

/// Answers one request with the hash of its body.
async fn answer_with_hash(listener: &tidewire::net::TcpListener, len: usize) {
    let (mut stream, _) = listener.accept().await.expect("accepted");
    let mut request = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        let end = request.windows(4).position(|window| window == b"\r\n\r\n");
        if end.is_some_and(|end| request.len() >= end + 4 + len) {
            break;
        }
        let count = stream.read(&mut buffer).await.expect("alive");
        assert!(
            count > 0,
            "the request ended after {} octets",
            request.len()
        );
        request.extend_from_slice(&buffer[..count]);
    }
    let answer = hash(&request[request.len() - len..]);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}",
        answer.len()
    );
    stream.write_all(answer.as_bytes()).await.expect("alive");
    stream.shutdown().await.expect("alive");
}

// RFC 7413: a SYN with data and without a cookie, as `tcp_fastopen` 4 has it, is acknowledged without the data, which comes
// again; a server may also keep it.
#[test]
fn data_in_the_syn_arrives_once() {
    const TEST: &str = "data_in_the_syn_arrives_once";
    if let Some(reason) = missing_program("curl") {
        return skip(TEST, &reason);
    }
    on_each_family(TEST, LIMIT, &LinkConfig::default(), async |link, family| {
        set_sysctl("ipv4/tcp_fastopen", "5");
        let listener = link
            .stack
            .tcp_listener((family.stack(), 80))
            .await
            .expect("bound");
        let url = format!("http://{}/", listener.local_addr().expect("bound"));
        for len in [10, 1000, 5000] {
            let text = "x".repeat(len);
            let mut curl = Command::new("curl");
            curl.args([
                "--silent",
                "--show-error",
                "--fail",
                "--noproxy",
                "*",
                "--tcp-fastopen",
            ]);
            curl.args(["--header", "Expect:", "--data-binary", &text, &url]);
            let (output, ()) = tokio::join!(curl.output(), answer_with_hash(&listener, len));
            let output = output.expect("curl");
            assert!(output.status.success(), "{output:?}");
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                hash(text.as_bytes())
            );
        }
        let sent = Command::new("nstat")
            .args(["-asz", "TcpExtTCPFastOpenActiveFail"])
            .output()
            .await;
        announce(&format!(
            "Fast Open: {:?}",
            sent.map(|sent| String::from_utf8(sent.stdout))
        ));
    });
}

// RFC 8684 3.1: a SYN with MP_CAPABLE is answered without, and the connection is plain TCP.
#[test]
fn multipath_kernels_fall_back() {
    const TEST: &str = "multipath_kernels_fall_back";
    if Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::MPTCP)).is_err() {
        return skip(TEST, "the kernel has no Multipath TCP");
    }
    on_each_family(TEST, LIMIT, &LinkConfig::default(), async |link, family| {
        let listener = link
            .stack
            .tcp_listener((family.stack(), 80))
            .await
            .expect("bound");
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::MPTCP)).expect("available");
        socket.set_nonblocking(true).expect("a plain option");
        let socket = tokio::net::TcpSocket::from_std_stream(socket.into());
        let address = listener.local_addr().expect("bound");
        let (kernel, ours) = tokio::join!(socket.connect(address), listener.accept());
        let (mut kernel, mut ours) = (kernel.expect("connected"), ours.expect("accepted").0);
        let (up, down) = (body(5, 4 * MIB), body(6, 4 * MIB));
        exchange(&mut ours, &mut kernel, &up, &down)
            .await
            .expect("alive");
        let fallbacks = Command::new("nstat")
            .args(["-asz", "MPTcpExtMPCapableFallback*"])
            .output();
        announce(&format!(
            "Multipath: {:?}",
            fallbacks.await.map(|out| String::from_utf8(out.stdout))
        ));
    });
}

// RFC 9293 3.8.5: the urgent pointer marks data, it does not take it out of the stream (RFC 6093 3.1).
#[test]
fn urgent_data_stays_in_the_stream() {
    let test = "urgent_data_stays_in_the_stream";
    on_each_family(test, LIMIT, &LinkConfig::default(), async |link, family| {
        let (mut ours, mut kernel) = link.connected(Role::StackListens, family).await;
        for _ in 0..20 {
            kernel.write_all(b"before").await.expect("alive");
            let sent = SockRef::from(&kernel).send_out_of_band(b"!");
            assert_eq!(sent.expect("alive"), 1);
            kernel.write_all(b"after").await.expect("alive");
        }
        kernel.shutdown().await.expect("alive");
        let mut text = String::new();
        ours.read_to_string(&mut text).await.expect("alive");
        assert_eq!(text, "before!after".repeat(20));
    });
}

/// Options of sockets, rather than of the whole kernel: quick ACKs, no delay, a cap on unsent data, keepalives.
#[test]
fn socket_options_of_the_kernel_do_no_harm() {
    let test = "socket_options_of_the_kernel_do_no_harm";
    on_each_family(test, LIMIT, &LinkConfig::default(), async |link, family| {
        let listener = link
            .stack
            .tcp_listener((family.stack(), 80))
            .await
            .expect("bound");
        let set: [fn(&SockRef<'_>) -> io::Result<()>; 4] = [
            |socket| socket.set_tcp_nodelay(true),
            |socket| socket.set_tcp_quickack(true),
            |socket| socket.set_tcp_notsent_lowat(16_384),
            |socket| socket.set_keepalive(true),
        ];
        for (index, set) in set.iter().enumerate() {
            let socket = kernel_socket(family);
            set(&SockRef::from(&socket)).expect("a plain option");
            let address = listener.local_addr().expect("bound");
            let (kernel, ours) = tokio::join!(socket.connect(address), listener.accept());
            let (mut kernel, mut ours) = (kernel.expect("connected"), ours.expect("accepted").0);
            let (up, down) = (body(7, 4 * MIB), body(8, 4 * MIB));
            let both = exchange(&mut ours, &mut kernel, &up, &down);
            link.within(LIMIT / 4, &format!("option {index}"), both)
                .await
                .expect("alive");
        }
    });
}
