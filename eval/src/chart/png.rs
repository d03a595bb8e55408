//! Renders SVG to PNG with a font that the binary carries.

use super::ChartError;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};
use std::sync::Arc;

/// Pixels per SVG unit.
const SCALE: f32 = 2.0;

pub(super) fn render(svg: &str) -> Result<Vec<u8>, ChartError> {
    let tree = Tree::from_str(svg, &options())?;
    let size = tree.size().to_int_size();
    let (width, height) = (size.width() * SCALE as u32, size.height() * SCALE as u32);
    let mut pixels = Pixmap::new(width, height).ok_or(ChartError::Size(width, height))?;
    resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|e| ChartError::Encode(e.to_string()))
}

/// The embedded font answers for every family, so that no system font is needed.
fn options() -> Options<'static> {
    let mut options = Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_font_source(resvg::usvg::fontdb::Source::Binary(Arc::new(epaint_default_fonts::UBUNTU_LIGHT)));
    let family = fonts.faces().next().and_then(|face| face.families.first()).map(|(name, _)| name.clone());
    fonts.set_sans_serif_family(family.expect("the embedded font names its family"));
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dark(svg_text: &str) -> usize {
        let svg = format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="60" height="20" font-family="Missing, sans-serif"><rect width="60" height="20" fill="#ffffff"/><text x="2" y="15">{svg_text}</text></svg>"##
        );
        let pixels = Pixmap::decode_png(&render(&svg).unwrap()).unwrap();
        assert_eq!((pixels.width(), pixels.height()), (120, 40));
        pixels.pixels().iter().filter(|p| p.red() < 128).count()
    }

    #[test]
    fn text_is_drawn_without_system_fonts() {
        assert_eq!(dark(""), 0);
        assert!(dark("0–100 %") > 100, "{}", dark("0–100 %"));
    }

    #[test]
    fn what_is_not_svg_is_an_error() {
        assert!(render("<svg").unwrap_err().to_string().starts_with("failed to read the chart's SVG"));
    }
}
