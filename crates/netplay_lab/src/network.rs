//! Two players behind a router, each in a network namespace of its own: paths that can be cut, addresses
//! that change, a NAT that forgets.
//!
//! ```text
//! player a 10.77.1.2 ── 10.77.1.1 router 10.77.2.1 ── 10.77.2.2 player b
//!                        (lobby server)
//! ```

use std::error::Error;
use std::process::Command;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The namespaces; gone when this is dropped.
pub struct Lab {
    prefix: String,
}

/// Why there can be no namespaces here, if so.
pub fn missing() -> Option<String> {
    let root = Command::new("id").arg("-u").output();
    if root.is_ok_and(|output| output.stdout != b"0\n") {
        return Some("namespaces need root".into());
    }
    for (program, flag) in [("ip", "-V"), ("nft", "-v"), ("conntrack", "-V")] {
        if Command::new(program).arg(flag).output().is_err() {
            return Some(format!("there is no program `{program}`"));
        }
    }
    let name = format!("nplab{}t", std::process::id());
    if run("ip", &["netns", "add", &name]).is_err() {
        return Some("this system makes no network namespaces".into());
    }
    run("ip", &["netns", "del", &name]).err().map(|error| error.to_string())
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}", arguments.join(" "), said.trim()).into())
}

impl Lab {
    /// Makes the namespaces. With a NAT, player b sees the router in place of player a, on another port
    /// after each [`Self::forget`].
    pub fn new(nat: bool) -> Result<Self> {
        let lab = Self { prefix: format!("nplab{}", std::process::id()) };
        let router = lab.name("r");
        run("ip", &["netns", "add", &router])?;
        run("ip", &["-n", &router, "link", "set", "lo", "up"])?;
        for (player, net) in [("a", "1"), ("b", "2")] {
            let name = lab.name(player);
            let (inner, outer) = (format!("np{player}"), format!("npr{player}"));
            run("ip", &["netns", "add", &name])?;
            run("ip", &["-n", &name, "link", "set", "lo", "up"])?;
            run(
                "ip",
                &[
                    "-n", &name, "link", "add", &inner, "type", "veth", "peer", "name", &outer,
                    "netns", &router,
                ],
            )?;
            let (own, gateway) = (format!("10.77.{net}.2/24"), format!("10.77.{net}.1"));
            run("ip", &["-n", &name, "addr", "add", &own, "dev", &inner])?;
            run("ip", &["-n", &name, "link", "set", &inner, "up"])?;
            let address = format!("{gateway}/24");
            run("ip", &["-n", &router, "addr", "add", &address, "dev", &outer])?;
            run("ip", &["-n", &router, "link", "set", &outer, "up"])?;
            run("ip", &["-n", &name, "route", "add", "default", "via", &gateway])?;
        }
        lab.inside("r", &["sysctl", "-qw", "net.ipv4.ip_forward=1"])?;
        if nat {
            lab.inside("r", &["nft", "add table ip nat"])?;
            let chain = "add chain ip nat post { type nat hook postrouting priority 100 ; }";
            lab.inside("r", &["nft", chain])?;
            let rule =
                "add rule ip nat post oifname \"nprb\" udp dport != 0 masquerade fully-random";
            lab.inside("r", &["nft", rule])?;
            // Nobody outside begins a conversation with who is behind a NAT.
            let chain = "add chain ip nat guard { type filter hook forward priority 1 ; }";
            lab.inside("r", &["nft", chain])?;
            let rule = "add rule ip nat guard iifname \"nprb\" ct state new drop";
            lab.inside("r", &["nft", rule])?;
        }
        lab.inside("r", &["nft", "add table ip cut"])?;
        lab.inside("r", &["nft", "add chain ip cut f { type filter hook forward priority 0 ; }"])?;
        Ok(lab)
    }

    /// A namespace's name: a, b, or r for the router.
    pub fn name(&self, of: &str) -> String {
        format!("{}{of}", self.prefix)
    }

    fn inside(&self, of: &str, command: &[&str]) -> Result<String> {
        let name = self.name(of);
        let mut arguments = vec!["netns", "exec", &name];
        arguments.extend(command);
        run("ip", &arguments)
    }

    /// Cuts the path between the players, or mends it. The lobby server stays in reach.
    pub fn cut(&self, cut: bool) -> Result<()> {
        let rule = if cut { "add rule ip cut f drop" } else { "flush chain ip cut f" };
        self.inside("r", &["nft", rule]).map(|_| ())
    }

    /// The NAT forgets what it knew: the next packet of a gets another port.
    pub fn forget(&self) -> Result<()> {
        // It says on standard error how many it has deleted, and fails if there were none.
        self.inside("r", &["conntrack", "-D", "-p", "udp"]).map(|_| ())
    }

    /// Player a gets another address and loses the one before.
    pub fn change_address(&self, from: u8, to: u8) -> Result<()> {
        let (from, to) = (format!("10.77.1.{from}/24"), format!("10.77.1.{to}/24"));
        self.inside("a", &["ip", "addr", "del", &from, "dev", "npa"])?;
        self.inside("a", &["ip", "addr", "add", &to, "dev", "npa"])?;
        // The kernel drops the route with the address it came from.
        let route = ["ip", "route", "replace", "default", "via", "10.77.1.1"];
        self.inside("a", &route).map(|_| ())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for of in ["a", "b", "r"] {
            // It may not have come so far.
            let _ = run("ip", &["netns", "del", &self.name(of)]);
        }
    }
}
