//! How each peer looks, the same in every chart of a page.

/// Line styles of ordinary peers in `style.css`, the subject's first.
const COLOURS: [&str; 8] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
/// Line styles of the floor: what no proxy can be below is no competitor.
const FLOORS: [&str; 4] = ["f0", "f1", "f2", "f3"];

/// A peer and its class in `style.css`.
pub(super) struct Style {
    pub(super) peer: String,
    pub(super) class: &'static str,
}

/// Classes for these peers: a control looks like its subject but broken, a floor is grey, the others take turns.
pub(super) fn styles<'a>(peers: impl Iterator<Item = &'a str>) -> Vec<Style> {
    let (mut colours, mut floors) = (COLOURS.iter().cycle(), FLOORS.iter().cycle());
    let mut next = |peer: &str| match peer {
        control if control.contains("-again") => "control",
        floor if floor.starts_with("floor") => floors.next().copied().unwrap_or(FLOORS[0]),
        _ => colours.next().copied().unwrap_or(COLOURS[0]),
    };
    peers.map(|peer| Style { peer: peer.to_owned(), class: next(peer) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The subject is always first in colour, its control alike, and the floor takes no colour from a proxy.
    #[test]
    fn every_peer_has_a_look() {
        let styles = styles(["corelane", "corelane-again", "floor-ring", "nginx"].into_iter());
        assert_eq!(styles.iter().map(|style| style.class).collect::<Vec<_>>(), ["s0", "control", "f0", "s1"]);
    }
}
