//! Logins over real sockets: join tickets, JWTs, bans.
#![expect(clippy::unwrap_used, reason = "the helpers are part of the tests")]

mod support;

use netplay_protocol::GameId;
use netplay_protocol::lobby::{ClientMessage, JoinTicket, Jwt, Login};
use netplay_server::{AdminConfig, JwtConfig, JwtKeys, ServerConfig, ServerHandle};
use serde_json::{Value, json};
use support::{Client, Ended, ask, ended, open, start};

const UNAUTHORIZED: Ended = Ended::Code(4004);
const BANNED: Ended = Ended::Code(4006);

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn server(change: impl FnOnce(&mut ServerConfig)) -> ServerHandle {
    start(|config| {
        let bind = ([127, 0, 0, 1], 0).into();
        config.admin = Some(AdminConfig { bind, token: None });
        config.lobby.login_required = true;
        change(config);
    })
}

fn hello(login: Option<Login>) -> ClientMessage {
    let game = GameId::new("test").unwrap();
    ClientMessage::Hello {
        protocol: netplay_protocol::PROTOCOL_VERSION,
        game,
        build: None,
        resume: None,
        login,
    }
}

async fn log_in(server: &ServerHandle, login: Option<Login>) -> Result<Client, Ended> {
    let socket = open(server).await.unwrap();
    Client::log_in(socket, &hello(login)).await
}

async fn ticket(server: &ServerHandle, body: Value) -> Login {
    let (status, answer) = ask(server, &format!("POST /tickets\n{body}"), None).await;
    assert_eq!(status, 201, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    Login::Ticket(JoinTicket(answer["ticket"].as_str().unwrap().to_owned()))
}

#[tokio::test]
async fn a_ticket_of_the_admin_address_lets_one_player_in_once() {
    let server = server(|_| {});
    assert_eq!(log_in(&server, None).await.err(), Some(UNAUTHORIZED));
    let login = ticket(&server, json!({"account": "ann", "game": "test"})).await;
    let mut ann = log_in(&server, Some(login.clone())).await.unwrap();
    let lobby = ann.create(2).await;
    assert_eq!(lobby.members[0].account.as_ref().unwrap().as_str(), "ann");
    assert_eq!(log_in(&server, Some(login)).await.err(), Some(UNAUTHORIZED));
    for wrong in ["{}", "{\"account\":\"\",\"game\":\"test\"}", "no json"] {
        let (status, _) = ask(&server, &format!("POST /tickets\n{wrong}"), None).await;
        assert!((400..500).contains(&status), "{wrong}: {status}");
    }
}

fn jwt(claims: &Value) -> Login {
    Login::Jwt(Jwt(support::jwt(claims, SECRET)))
}

#[tokio::test]
async fn a_jwt_of_who_is_trusted_lets_its_subject_in() {
    let keys = JwtKeys::Secret(SECRET.to_vec());
    let trusted = JwtConfig { keys, issuer: None, audience: None };
    let server = server(|config| config.jwt = Some(trusted));
    let later = 10_000_000_000_u64;
    let mut ann = log_in(&server, Some(jwt(&json!({"sub": "ann", "exp": later})))).await.unwrap();
    let lobby = ann.create(2).await;
    assert_eq!(lobby.members[0].account.as_ref().unwrap().as_str(), "ann");
    let old = log_in(&server, Some(jwt(&json!({"sub": "ann", "exp": 1})))).await;
    assert_eq!(old.err(), Some(UNAUTHORIZED));
}

#[tokio::test]
async fn who_is_banned_is_put_out_and_stays_out_until_that_is_ended() {
    let server = server(|_| {});
    let body = json!({"account": "ann|1", "game": "test"});
    let login = ticket(&server, body.clone()).await;
    let mut ann = log_in(&server, Some(login)).await.unwrap();
    assert_eq!(ask(&server, "PUT /bans/ann%7C1?secs=3600", None).await.0, 204);
    assert_eq!(ended(&mut ann.socket).await, BANNED);
    let again = ticket(&server, body.clone()).await;
    assert_eq!(log_in(&server, Some(again)).await.err(), Some(BANNED));
    let (status, bans) = ask(&server, "GET /bans", None).await;
    let bans: Value = serde_json::from_str(&bans).unwrap();
    assert!(status == 200 && bans["ann|1"].as_u64().is_some(), "{bans}");
    assert_eq!(ask(&server, "DELETE /bans/ann%7C1", None).await.0, 204);
    let again = ticket(&server, body).await;
    assert!(log_in(&server, Some(again)).await.is_ok());
}
