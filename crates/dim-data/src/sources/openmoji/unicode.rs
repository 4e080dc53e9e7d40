//! Unicode's own list of emoji: which there are, and their groups and subgroups.

/// Unicode 17.0, Unicode Technical Standard 51, `emoji-test.txt`, unchanged; its licence stands beside it.
const EMOJI_TEST: &str = include_str!("../../../data/unicode-17.0/emoji-test.txt");

/// An emoji's code points without U+FE0F, which only asks for colour and which file names give or leave out at will.
pub(super) type Key = Vec<u32>;

const EMOJI_PRESENTATION: u32 = 0xFE0F;

/// The group of things that are no emoji of their own: swatches of skin, wigs.
pub(super) const COMPONENT: &str = "Component";
/// The group of flags.
pub(super) const FLAGS: &str = "Flags";

/// One emoji of the list.
#[derive(Debug)]
pub(super) struct Emoji {
    pub(super) key: Key,
    pub(super) group: &'static str,
    pub(super) subgroup: &'static str,
}

impl Emoji {
    /// Whether it is a variant of another emoji with another colour of skin.
    pub(super) fn has_skin_tone(&self) -> bool {
        self.key.len() > 1 && self.key.iter().any(|point| (0x1F3FB..=0x1F3FF).contains(point))
    }
}

/// All emoji in Unicode's order.
pub(super) fn emoji() -> Vec<Emoji> {
    parse(EMOJI_TEST)
}

/// Names of all groups and the names of their subgroups, in Unicode's order.
pub(super) fn groups(list: &[Emoji]) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for emoji in list {
        match groups.last_mut() {
            Some((group, subgroups)) if *group == emoji.group => {
                if subgroups.last() != Some(&emoji.subgroup) {
                    subgroups.push(emoji.subgroup);
                }
            }
            _ => groups.push((emoji.group, vec![emoji.subgroup])),
        }
    }
    groups
}

/// The key in a file name such as `1F3F3-FE0F-200D-1F308`; `None` if it is not made of code points.
pub(super) fn key(file_stem: &str) -> Option<Key> {
    parse_key(file_stem.split('-'))
}

fn parse_key<'a>(points: impl Iterator<Item = &'a str>) -> Option<Key> {
    let points: Option<Key> = points.map(|point| u32::from_str_radix(point, 16).ok()).collect();
    points.map(|points| points.into_iter().filter(|&point| point != EMOJI_PRESENTATION).collect())
}

/// Lines are `# group: NAME`, `# subgroup: NAME`, other comments, or `CODE POINTS ; STATUS # EMOJI VERSION NAME`, where only
/// two statuses name an emoji; the others are ways to write one of those.
fn parse(text: &'static str) -> Vec<Emoji> {
    let (mut group, mut subgroup) = ("", "");
    let mut list = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("# group:") {
            group = name.trim();
        } else if let Some(name) = line.strip_prefix("# subgroup:") {
            subgroup = name.trim();
        } else if let Some((points, rest)) = line.split_once(';').filter(|_| !line.starts_with('#')) {
            let status = rest.split('#').next().unwrap_or_default().trim();
            let named = matches!(status, "fully-qualified" | "component");
            list.extend(parse_key(points.split_whitespace()).filter(|_| named).map(|key| Emoji {
                key,
                group,
                subgroup,
            }));
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_list_has_what_its_own_closing_lines_count() {
        let count = |status: &str| -> usize {
            let line = EMOJI_TEST.lines().find_map(|line| line.strip_prefix(status)?.trim().strip_prefix(':'));
            line.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("no count of {status}"))
        };
        let list = emoji();
        assert_eq!(list.len(), count("# fully-qualified") + count("# component"));
        assert_eq!(list.iter().filter(|emoji| emoji.group == COMPONENT).count(), count("# component"));
        let keys: BTreeSet<&Key> = list.iter().map(|emoji| &emoji.key).collect();
        assert_eq!(keys.len(), list.len(), "two emoji differ only in U+FE0F");
    }

    #[test]
    fn groups_and_subgroups_are_unicodes() {
        let groups = groups(&emoji());
        assert_eq!(groups.len(), 10);
        assert_eq!(groups[0].0, "Smileys & Emotion");
        assert_eq!(groups[0].1[..2], ["face-smiling", "face-affection"]);
        assert_eq!(groups[9], (FLAGS, vec!["flag", "country-flag", "subdivision-flag"]));
        let subgroups: Vec<&str> = groups.into_iter().flat_map(|(_, subgroups)| subgroups).collect();
        assert_eq!(
            subgroups.iter().collect::<BTreeSet<_>>().len(),
            subgroups.len(),
            "a subgroup belongs to two groups"
        );
    }

    #[test]
    fn file_names_become_keys_without_the_presentation_selector() {
        assert_eq!(key("1F3F3-FE0F-200D-1F308"), Some(vec![0x1F3F3, 0x200D, 0x1F308]));
        assert_eq!(key("1f600"), Some(vec![0x1F600]));
        assert_eq!(key("LICENSE"), None);
        assert_eq!(key(""), None);
    }

    #[test]
    fn a_swatch_of_skin_is_no_variant_of_another_emoji() {
        let with_tone = |key: Key| Emoji { key, group: "", subgroup: "" }.has_skin_tone();
        assert!(with_tone(vec![0x1F44B, 0x1F3FD]));
        assert!(!with_tone(vec![0x1F3FD]));
        assert!(!with_tone(vec![0x1F44B]));
    }
}
