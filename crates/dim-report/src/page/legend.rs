//! The models of a group, as switches that show and hide them.

use maud::{Markup, html};

use super::look::{Look, Looks};
use crate::{
    format,
    record::{Group, Run},
};

pub(super) fn legend(run: &Run, group: &Group, looks: &Looks) -> Markup {
    html! {
        div.legend role="group" aria-label="Show or hide models in all plots" {
            @for model in &group.models {
                @if let Some((number, look)) = looks.get(model) {
                    button.key type="button" aria-pressed="true" data-model=(number) {
                        (swatch(&look)) span { (model) }
                        @if let Some(point) = run.points.iter().find(|point| point.model == *model) {
                            small { (format::number(point.parameters as f64 / 1e6)) " M parameters" }
                        }
                    }
                }
            }
        }
    }
}

fn swatch(look: &Look) -> Markup {
    html! {
        svg.swatch viewBox="0 0 36 14" width="36" height="14" aria-hidden="true" {
            g class=(look.class()) {
                line.line x1="1" y1="7" x2="35" y2="7" stroke-dasharray=(look.dashes) {}
                path.marker d=(look.marker) transform="translate(18 7)" {}
            }
        }
    }
}
