//! The program `netplay-server`: its first line, its exit codes, its errors.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

use core::time::Duration;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(10);

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netplay-server"));
    command.args(arguments).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts it, and gives the address of its first line.
async fn started() -> (Child, String) {
    let mut child = program(&["--bind", "127.0.0.1:0", "--key", "none"]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(DEADLINE, lines.next_line()).await.expect("a line in time").unwrap();
    let line = line.expect("a first line");
    let address = line.strip_prefix("listening on ws://127.0.0.1:").expect("as documented");
    let address = format!("127.0.0.1:{address}");
    (child, address)
}

#[tokio::test]
async fn sigterm_stops_it_with_exit_code_0() {
    let (mut child, address) = started().await;
    TcpStream::connect(&address).await.unwrap();
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    let status = timeout(DEADLINE, child.wait()).await.expect("it stops").unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_port_in_use_is_one_clear_line_and_exit_code_1() {
    let (_child, address) = started().await;
    let mut second = program(&["--bind", &address, "--key", "none"]).spawn().unwrap();
    let status = timeout(DEADLINE, second.wait()).await.expect("it stops").unwrap();
    assert_eq!(status.code(), Some(1));
    let mut said = String::new();
    second.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(&address) && said.contains("--bind"), "{said}");
}

#[tokio::test]
async fn help_and_version_say_what_it_is() {
    let help = timeout(DEADLINE, program(&["--help"]).output()).await.unwrap().unwrap();
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(
        help.status.success()
            && text.contains("--bind")
            && text.contains("--key")
            && text.contains("127.0.0.1:3536")
    );
    let version = timeout(DEADLINE, program(&["--version"]).output()).await.unwrap().unwrap();
    assert!(String::from_utf8(version.stdout).unwrap().starts_with("netplay-server "));
}

#[tokio::test]
async fn a_key_file_is_made_and_one_that_is_none_is_one_clear_line() {
    let directory = std::env::temp_dir().join(format!("netplay-server-{}", std::process::id()));
    let path = directory.join("key");
    let key = path.to_str().unwrap();
    for _ in 0..2 {
        let mut child = program(&["--bind", "127.0.0.1:0", "--key", key]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        timeout(DEADLINE, lines.next_line()).await.expect("a line in time").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().len(), 65);
    }
    std::fs::write(&path, "no key").unwrap();
    let output = program(&["--bind", "127.0.0.1:0", "--key", key]).output();
    let output = timeout(DEADLINE, output).await.expect("it stops").unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(key) && said.contains("delete it"), "{said}");
    std::fs::remove_dir_all(&directory).unwrap();
}
