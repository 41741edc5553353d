//! Whether something that is checked counts as up: it takes a few answers in a row to change that.

/// Failures in a row that take it down.
const FALL: u32 = 3;
/// Successes in a row that bring it back.
const RISE: u32 = 2;

/// What the checks of one target have shown so far. It begins up: absence of evidence takes nothing out of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    down: bool,
    /// Answers in a row that speak against what holds now.
    against: u32,
}

impl Standing {
    /// Takes one answer in; true if it changed what holds.
    pub(crate) fn note(&mut self, good: bool) -> bool {
        if good != self.down {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let enough = if self.down { RISE } else { FALL };
        if self.against < enough {
            return false;
        }
        *self = Self { down: !self.down, against: 0 };
        true
    }

    pub(crate) fn is_down(self) -> bool {
        self.down
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three failures in a row take a target down, two successes in a row bring it back, and mixed answers change nothing.
    #[test]
    fn it_takes_answers_in_a_row() {
        for (answers, down) in [
            ("", false),
            ("--", false),
            ("---", true),
            ("--+--+--", false),
            ("---+", true),
            ("---+-+-+", true),
            ("---++", false),
            ("---++--", false),
            ("---++---", true),
        ] {
            let mut standing = Standing::default();
            let changes = answers.chars().filter(|answer| standing.note(*answer == '+')).count();
            assert_eq!(standing.is_down(), down, "{answers}");
            assert_eq!(changes % 2 == 1, down, "{answers}");
        }
    }
}
