//! A run as a whole, and what it holds.

use super::{Group, Header, Mode, Point, RecordRef, Role};

/// A run: its description, its points, and what was odd about its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// What it was made on.
    pub header: Header,
    /// Its points; no two of the same model, mode, image size and role.
    pub points: Vec<Point>,
    /// What a reader of its numbers should know about its file.
    pub warnings: Vec<String>,
}

impl Run {
    /// Names of the models that have a point: in the order of the groups, then as they came.
    pub fn models(&self) -> Vec<&str> {
        let grouped = self.header.groups.iter().flat_map(|group| &group.models);
        let has_point = |name: &&String| self.points.iter().any(|point| point.model == **name);
        distinct(grouped.filter(has_point).chain(self.points.iter().map(|point| &point.model)).map(String::as_str))
    }

    /// The modes that have a point, in order.
    pub fn modes(&self) -> Vec<Mode> {
        let mut modes = distinct(self.points.iter().map(|point| point.mode));
        modes.sort_unstable();
        modes
    }

    /// Image sizes that were tried in a mode, from small to large.
    pub fn sizes(&self, mode: Mode) -> Vec<u32> {
        let mut sizes = distinct(self.points.iter().filter(|point| point.mode == mode).map(|point| point.image_px));
        sizes.sort_unstable();
        sizes
    }

    /// The one point of these, if there is one.
    pub fn point(&self, model: &str, mode: Mode, role: Role, image_px: u32) -> Option<&Point> {
        self.series(model, mode, role).into_iter().find(|point| point.image_px == image_px)
    }

    /// The points of a model in a mode, from small images to large.
    pub fn series(&self, model: &str, mode: Mode, role: Role) -> Vec<&Point> {
        let is_of = |point: &&Point| point.model == model && point.mode == mode && point.role == role;
        let mut series: Vec<_> = self.points.iter().filter(is_of).collect();
        series.sort_by_key(|point| point.image_px);
        series
    }

    /// The groups, without models that have no point. A run without groups compares everything.
    pub fn groups(&self) -> Vec<Group> {
        let models = self.models();
        if self.header.groups.is_empty() {
            let all = models.into_iter().map(str::to_owned).collect();
            return vec![Group { name: "all models".to_owned(), note: String::new(), models: all }];
        }
        let mut groups = self.header.groups.clone();
        groups.iter_mut().for_each(|group| group.models.retain(|name| models.contains(&name.as_str())));
        groups.retain(|group| !group.models.is_empty());
        groups
    }

    /// The run as the lines of a file.
    pub fn to_json_lines(&self) -> String {
        let points = self.points.iter().map(|point| RecordRef::Point(point).line());
        std::iter::once(RecordRef::Run(&self.header).line()).chain(points).collect()
    }
}

/// Every value once, where it first came.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.fold(Vec::new(), |mut kept, value| {
        if !kept.contains(&value) {
            kept.push(value);
        }
        kept
    })
}
