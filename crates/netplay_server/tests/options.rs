//! The options of `netplay-server`, and what it reads again.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use std::path::PathBuf;
use std::process::{Output, Stdio};

use support::DEADLINE;
use support::tls::{Files, connect};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netplay-server"));
    command.args(arguments).args(["--key", "none"]).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn output(arguments: &[&str]) -> Output {
    timeout(DEADLINE, program(arguments).output()).await.expect("it ends").unwrap()
}

/// Starts it, and gives its first line after `listening on `.
async fn started(command: &mut Command) -> (Child, String) {
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(DEADLINE, lines.next_line()).await.expect("a line in time").unwrap();
    let line = line.expect("a first line");
    let url = line.strip_prefix("listening on ").expect("as documented").to_owned();
    (child, url)
}

/// A file with options, which is deleted with it.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("netplay-options-{}-{name}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn flags_count_over_the_environment_and_that_over_the_file() {
    let file = File::new("order", "bind = \"127.0.0.2:0\"\n");
    let (_child, url) = started(&mut program(&["--config", file.path()])).await;
    assert!(url.starts_with("ws://127.0.0.2:"), "{url}");
    let mut command = program(&[]);
    let command = command.env("NETPLAY_CONFIG", file.path()).env("NETPLAY_BIND", "127.0.0.3:0");
    let (_child, url) = started(command).await;
    assert!(url.starts_with("ws://127.0.0.3:"), "{url}");
    let mut command = program(&["--config", file.path(), "--bind", "127.0.0.4:0"]);
    let (_child, url) = started(command.env("NETPLAY_BIND", "127.0.0.3:0")).await;
    assert!(url.starts_with("ws://127.0.0.4:"), "{url}");
}

#[tokio::test]
async fn the_file_that_it_prints_is_one_that_it_takes() {
    let printed = output(&["--print-config"]).await;
    assert!(printed.status.success());
    let text = String::from_utf8(printed.stdout).unwrap();
    let table: toml::Table = text.parse().unwrap();
    assert_eq!(table["bind"].as_str(), Some("127.0.0.1:3536"));
    assert_eq!(table["max-per-address"].as_integer(), Some(256));
    let file = File::new("printed", &text);
    let arguments = ["--config", file.path(), "--bind", "127.0.0.1:0"];
    let (_child, url) = started(&mut program(&arguments)).await;
    assert!(url.starts_with("ws://127.0.0.1:"), "{url}");
}

#[tokio::test]
async fn a_limit_of_the_file_holds() {
    let text = "bind = \"127.0.0.1:0\"\nmax-connections = 0\n";
    let file = File::new("limit", text);
    let (_child, url) = started(&mut program(&["--config", file.path()])).await;
    let mut ready = TcpStream::connect(url.strip_prefix("ws://").unwrap()).await.unwrap();
    ready.write_all(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(DEADLINE, ready.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[tokio::test]
async fn what_cannot_be_used_is_one_line_that_says_what_to_do() {
    let unknown = File::new("unknown", "\nmax-conections = 1\n");
    let missing = "/does/not/exist.toml";
    for (arguments, words) in [
        (&["--config", unknown.path()][..], &["line 2", "\"max-connections\""][..]),
        (&["--config", missing], &[missing]),
        (&["--tls-cert", "x"], &["--tls-key FILE"]),
        (&["--tls-cert", missing, "--tls-key", missing], &[missing, "--tls-cert"]),
        (&["--admin-token", "x"], &["--admin ADDRESS:PORT"]),
    ] {
        let output = output(arguments).await;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    for wrong in [["--origin", "game.example"], ["--trust-proxy", "10.0.0.0/33"], ["--grace", "0"]]
    {
        let output = output(&wrong).await;
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

async fn says(lines: &mut Lines<BufReader<ChildStderr>>, word: &str) {
    let said = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(word) {
                return;
            }
        }
        panic!("it ended");
    };
    timeout(DEADLINE, said).await.expect(word);
}

#[tokio::test]
async fn sighup_makes_it_read_its_certificate_again_and_keep_the_old_one_if_the_new_one_is_bad() {
    let files = Files::new("hangup");
    let old = files.renew();
    let (certificate, key) = (files.certificate(), files.key());
    let arguments =
        ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let mut command = program(&arguments);
    let (mut child, url) = started(command.args(["--bind", "127.0.0.1:0"])).await;
    let address = url.strip_prefix("wss://").expect(&url).parse().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let id = child.id().unwrap().to_string();
    let hangup = async || {
        assert!(Command::new("kill").args(["-HUP", &id]).status().await.unwrap().success());
    };
    connect(address, &old).await.unwrap();
    let new = files.renew();
    hangup().await;
    says(&mut lines, "was read again").await;
    connect(address, &new).await.unwrap();
    std::fs::write(files.certificate(), "no certificate").unwrap();
    hangup().await;
    says(&mut lines, "stays as it was").await;
    connect(address, &new).await.unwrap();
}

#[tokio::test]
async fn sighup_does_not_end_a_server_without_a_certificate() {
    let (mut child, url) = started(&mut program(&["--bind", "127.0.0.1:0"])).await;
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-HUP", &id]).status().await.unwrap().success());
    says(&mut lines, "no certificate").await;
    TcpStream::connect(url.strip_prefix("ws://").unwrap()).await.unwrap();
}
