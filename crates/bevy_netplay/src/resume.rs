//! The file with which a game that is started anew is back in its seat.
//!
//! Written whenever the lobby server gives another secret, readable by its user only; removed when the
//! game leaves by itself. What a kill or a crash leaves behind is taken up by the next start.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::{fs, process};

use netplay_protocol::PeerId;
use netplay_transport::{ResumeToken, SavedSession};

const FIRST_LINE: &str = "netplay-resume 1";
/// A token has about 500 bytes, an address fewer.
const LEN_MAX: u64 = 32 * 1024;

/// Of one lobby.
#[derive(Debug)]
pub(crate) struct ResumeFile {
    path: PathBuf,
    server: String,
    game: String,
}

impl ResumeFile {
    pub(crate) fn new(path: &Path, server: &str, game: &str) -> Self {
        Self { path: path.to_owned(), server: server.to_owned(), game: game.to_owned() }
    }

    /// The session in the file, if it is one of this game on this server.
    pub(crate) fn read(&self) -> Option<SavedSession> {
        let mut text = String::new();
        let file = fs::File::open(&self.path).ok()?;
        if let Err(error) = file.take(LEN_MAX).read_to_string(&mut text) {
            tracing::warn!(path = %self.path.display(), %error, "the resume file is not read");
            return None;
        }
        self.parse(&text)
    }

    fn parse(&self, text: &str) -> Option<SavedSession> {
        let mut lines = text.lines();
        let of_ours = lines.next()? == FIRST_LINE
            && lines.next()? == self.server
            && lines.next()? == self.game;
        let peer = PeerId::from_u128(u128::from_str_radix(lines.next()?, 16).ok()?);
        let token = ResumeToken(lines.next()?.to_owned());
        of_ours.then_some(SavedSession { peer, token })
    }

    /// Writes the session, at once or not at all.
    pub(crate) fn write(&self, saved: &SavedSession) {
        let Self { server, game, .. } = self;
        let (peer, token) = (saved.peer.as_u128(), &saved.token.0);
        let text = format!("{FIRST_LINE}\n{server}\n{game}\n{peer:032x}\n{token}\n");
        if let Err(error) = self.replace(&text) {
            tracing::warn!(path = %self.path.display(), %error, "the resume file is not written");
        }
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let new = self.path.with_extension(format!("new{}", process::id()));
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        options.open(&new)?.write_all(text.as_bytes())?;
        fs::rename(&new, &self.path)
    }

    pub(crate) fn remove(&self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "the resume file is not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> ResumeFile {
        let path = std::env::temp_dir().join(format!("netplay-{name}-{}", process::id()));
        ResumeFile::new(&path, "ws://here", "game")
    }

    fn saved() -> SavedSession {
        SavedSession { peer: PeerId::from_u128(7), token: ResumeToken("secret".into()) }
    }

    #[test]
    fn a_session_is_read_as_it_was_written_and_only_its_user_may_read_it() {
        let file = file("resume");
        assert_eq!(file.read(), None);
        file.write(&saved());
        assert_eq!(file.read(), Some(saved()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&file.path).expect("it is there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        file.remove();
        assert_eq!(file.read(), None);
        file.remove();
    }

    #[test]
    fn a_session_of_another_game_or_server_is_none_and_so_is_anything_else() {
        let ours = file("other");
        ours.write(&saved());
        for (server, game) in [("ws://there", "game"), ("ws://here", "other")] {
            assert_eq!(ResumeFile::new(&ours.path, server, game).read(), None);
        }
        for text in [&b""[..], b"\xff\xfe", b"netplay-resume 1\nws://here\ngame\nnobody\nt\n"] {
            fs::write(&ours.path, text).expect("it can be written");
            assert_eq!(ours.read(), None);
        }
        ours.remove();
    }
}
