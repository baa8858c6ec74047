#include <tuple>
#include <vector>

#include "../cpu/dispatch.h"
#include "../cpu/tiles.h"
#include "tensors.h"

namespace sd::bind {
namespace {

using namespace sd::cpu;

constexpr int64_t kRecordFloats = sizeof(ProjectedSplat) / sizeof(float);
constexpr int64_t kMaxSide = 16384;  // block coordinates are 13 bits in tile_rows.cpp
constexpr int64_t kMaxChannels = 1024;

// The arguments of both passes, stated once: their structures, the parameters of the operators and the schemas follow.
#define SD_INPUTS(X) X(means) X(quats) X(scales) X(opacities) X(colors) X(viewmats) X(Ks)
#define SD_SETTINGS(X)                         \
  X(int64_t, "int", width)                     \
  X(int64_t, "int", height)                    \
  X(std::optional<int64_t>, "int?", sh_degree) \
  X(double, "float", near)                     \
  X(double, "float", far)                      \
  X(double, "float", eps2d)

#define SD_INPUT_FIELD(name) const Tensor& name;
#define SD_INPUT_PARAMETER(name) const Tensor &name,
#define SD_INPUT_VALUE(name) name,
#define SD_INPUT_SCHEMA(name) "Tensor " #name ", "
#define SD_SETTING_FIELD(type, schema, name) type name;
#define SD_SETTING_PARAMETER(type, schema, name) , type name
#define SD_SETTING_VALUE(type, schema, name) name,
#define SD_SETTING_SCHEMA(type, schema, name) ", " schema " " #name

struct RasterInputs {
  SD_INPUTS(SD_INPUT_FIELD)
};

struct RasterSettings {
  SD_SETTINGS(SD_SETTING_FIELD)
};

// The inputs of both passes, checked.
struct Scene {
  RasterConfig config;
  std::vector<Camera> cameras;
  SplatInputs splats;
};

Scene make_scene(const RasterInputs& inputs, const RasterSettings& settings) {
  const auto& [means, quats, scales, opacities, colors, viewmats, Ks] = inputs;
  const int64_t width = settings.width, height = settings.height, sh_degree = settings.sh_degree.value_or(-1);
  STD_TORCH_CHECK(means.dim() == 2 && viewmats.dim() == 3, "means must be [N,3] and viewmats [V,4,4]");
  STD_TORCH_CHECK(width > 0 && width <= kMaxSide && height > 0 && height <= kMaxSide, "bad image size");
  const int64_t n = means.size(0), v = viewmats.size(0);
  STD_TORCH_CHECK(n * v < INT32_MAX, "too many splats times views");
  Scene scene;
  STD_TORCH_CHECK(!settings.sh_degree || (sh_degree >= 0 && sh_degree <= 3),
                  "sh_degree must be 0..3, or none for colours");
  const bool harmonics = settings.sh_degree.has_value(), per_view = !harmonics && colors.dim() == 3;
  STD_TORCH_CHECK(colors.dim() == (per_view || harmonics ? 3 : 2), "colors must be [N,D], [V,N,D] or [N,K,3]");
  const int64_t d = colors.size(colors.dim() - 1), rows = harmonics ? colors.size(1) : 0;
  STD_TORCH_CHECK(d > 0 && d <= kMaxChannels && rows <= kMaxChannels, "too many channels");
  STD_TORCH_CHECK(!harmonics || (d == 3 && rows >= (sh_degree + 1) * (sh_degree + 1)), "too few harmonics");
  scene.config = {n,
                  v,
                  static_cast<int>(width),
                  static_cast<int>(height),
                  static_cast<float>(settings.near),
                  static_cast<float>(settings.far),
                  static_cast<float>(settings.eps2d),
                  static_cast<int>(d),
                  per_view,
                  static_cast<int>(sh_degree),
                  static_cast<int>(rows),
                  num_threads()};
  scene.splats.means = checked<float>(means, "means", {n, 3});
  scene.splats.quats = checked<float>(quats, "quats", {n, 4});
  scene.splats.scales = checked<float>(scales, "scales", {n, 3});
  scene.splats.opacities = checked<float>(opacities, "opacities", {n});
  scene.splats.colors = harmonics  ? checked<float>(colors, "colors", {n, rows, 3})
                        : per_view ? checked<float>(colors, "colors", {v, n, d})
                                   : checked<float>(colors, "colors", {n, d});
  scene.splats.means2d_offset = nullptr;
  const float* viewmat = checked<float>(viewmats, "viewmats", {v, 4, 4});
  const float* K = checked<float>(Ks, "Ks", {v, 3, 3});
  for (int64_t i = 0; i < v; ++i)
    scene.cameras.push_back(make_camera(viewmat + 16 * i, K + 9 * i, scene.config.width, scene.config.height));
  return scene;
}

using Forward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

Forward rasterize_forward(SD_INPUTS(SD_INPUT_PARAMETER) const Tensor& background,
                          const std::optional<Tensor>& means2d_offset SD_SETTINGS(SD_SETTING_PARAMETER)) {
  Scene scene = make_scene({SD_INPUTS(SD_INPUT_VALUE)}, {SD_SETTINGS(SD_SETTING_VALUE)});
  const RasterConfig& config = scene.config;
  const int64_t n = config.num_splats, v = config.num_views, d = config.num_channels;
  if (means2d_offset) scene.splats.means2d_offset = checked<float>(*means2d_offset, "means2d_offset", {v, n, 2});
  const float* background_data = checked<float>(background, "background", {v, d});

  Tensor means2d = allocate<float>(means, {v, n, 2});
  Tensor radii = allocate<int32_t>(means, {v, n, 2});
  Tensor records_tensor = allocate<float>(means, {v, n, kRecordFloats});
  ProjectedSplat* records = data<ProjectedSplat>(records_tensor);
  kernels().project(config, scene.cameras.data(), scene.splats, records, data<float>(means2d), data<int32_t>(radii));

  const TileBinner tiles(config, records);
  const int64_t e = tiles.num_entries();
  STD_TORCH_CHECK(e < INT32_MAX, "the splats cover too many tiles: use smaller splats or images");
  Tensor tile_offsets = allocate<int32_t>(means, {num_tiles(config) + 1});
  Tensor tile_ids = allocate<int32_t>(means, {e});
  Tensor tile_masks = allocate<uint16_t>(means, {e}), tile_hits = allocate<uint16_t>(means, {e});
  const TileLists lists = {data<int32_t>(tile_offsets), data<int32_t>(tile_ids), data<uint16_t>(tile_masks),
                           data<uint16_t>(tile_hits)};
  tiles.fill(lists, kernels());

  Tensor color = allocate<float>(means, {v, height, width, d});
  Tensor alpha = allocate<float>(means, {v, height, width, 1});
  Tensor depth = allocate<float>(means, {v, height, width, 1});
  kernels().blend(config, {records, scene.splats.colors, background_data, lists},
                  {data<float>(color), data<float>(alpha), data<float>(depth)});
  return {color, alpha, depth, means2d, radii, records_tensor, tile_offsets, tile_ids, tile_hits};
}

using Backward = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// An image's gradient, or null where nothing depends on it.
float* image_gradient(const std::optional<Tensor>& grad, const char* name, std::initializer_list<int64_t> sizes) {
  return grad ? checked<float>(*grad, name, sizes) : nullptr;
}

Backward rasterize_backward(const Tensor& v_color, const std::optional<Tensor>& v_alpha,
                            const std::optional<Tensor>& v_depth, const std::optional<Tensor>& v_means2d,
                            SD_INPUTS(SD_INPUT_PARAMETER) const Tensor& color, const Tensor& alpha, const Tensor& depth,
                            const Tensor& radii, const Tensor& records_tensor, const Tensor& tile_offsets,
                            const Tensor& tile_ids, const Tensor& tile_hits,
                            bool cameras SD_SETTINGS(SD_SETTING_PARAMETER)) {
  STD_TORCH_CHECK(tile_ids.dim() == 1, "tile_ids must be [E]");
  const Scene scene = make_scene({SD_INPUTS(SD_INPUT_VALUE)}, {SD_SETTINGS(SD_SETTING_VALUE)});
  const RasterConfig& config = scene.config;
  const int64_t n = config.num_splats, v = config.num_views, d = config.num_channels, e = tile_ids.size(0);
  check_layout(records_tensor, "records", {v, n, kRecordFloats});
  const ProjectedSplat* records = data<ProjectedSplat>(records_tensor);
  const TileLists lists = {checked<int32_t>(tile_offsets, "tile_offsets", {num_tiles(config) + 1}),
                           checked<int32_t>(tile_ids, "tile_ids", {e}), nullptr,
                           checked<uint16_t>(tile_hits, "tile_hits", {e})};
  const Images images = {checked<float>(color, "color", {v, height, width, d}),
                         checked<float>(alpha, "alpha", {v, height, width, 1}),
                         checked<float>(depth, "depth", {v, height, width, 1})};
  const Images grads = {checked<float>(v_color, "v_color", {v, height, width, d}),
                        image_gradient(v_alpha, "v_alpha", {v, height, width, 1}),
                        image_gradient(v_depth, "v_depth", {v, height, width, 1})};

  Tensor sums = allocate<float>(means, {e * entry_sums(config) + kPadding});
  Tensor rows = allocate<int32_t>(means, {v, n});
  Tensor tile_background = allocate<float>(means, {num_tiles(config), d});
  kernels().blend_backward(config, {records, scene.splats.colors, nullptr, lists}, images, grads, data<float>(sums),
                           data<float>(tile_background));

  Tensor g_means = allocate<float>(means, {n, 3}), g_quats = allocate<float>(means, {n, 4}),
         g_scales = allocate<float>(means, {n, 3}), g_opacities = allocate<float>(means, {n}),
         g_colors = torch::stable::empty_like(colors), g_background = allocate<float>(means, {v, d}),
         g_means2d = allocate<float>(means, {v, n, 2}), g_viewmats = allocate<float>(means, {cameras ? v : 0, 4, 4}),
         partial = allocate<float>(means, {cameras ? camera_partials(config) : 0});
  sum_background(config, data<float>(tile_background), data<float>(g_background));
  const SplatGradients out = {data<float>(g_means),
                              data<float>(g_quats),
                              data<float>(g_scales),
                              data<float>(g_opacities),
                              data<float>(g_colors),
                              data<float>(g_means2d),
                              cameras ? data<float>(g_viewmats) : nullptr,
                              data<float>(partial)};
  const float* v_means2d_data = v_means2d ? checked<float>(*v_means2d, "v_means2d", {v, n, 2}) : nullptr;
  kernels().project_backward(
      config, scene.cameras.data(), scene.splats,
      {checked<int32_t>(radii, "radii", {v, n, 2}), lists, data<float>(sums), data<int32_t>(rows), v_means2d_data},
      out);
  return {g_means, g_quats, g_scales, g_opacities, g_colors, g_viewmats, g_background, g_means2d};
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(splatdistill, m) {
  m.def("rasterize_forward(" SD_INPUTS(SD_INPUT_SCHEMA) "Tensor background, Tensor? means2d_offset" SD_SETTINGS(
      SD_SETTING_SCHEMA) ") -> (Tensor color, Tensor alpha, Tensor depth, Tensor means2d, Tensor radii, Tensor records, "
      "Tensor tile_offsets, Tensor tile_ids, Tensor tile_hits)");
  m.def("rasterize_backward(Tensor v_color, Tensor? v_alpha, Tensor? v_depth, Tensor? v_means2d, " SD_INPUTS(
      SD_INPUT_SCHEMA) "Tensor color, Tensor alpha, Tensor depth, Tensor radii, Tensor records, Tensor tile_offsets, "
      "Tensor tile_ids, Tensor tile_hits, bool cameras" SD_SETTINGS(SD_SETTING_SCHEMA) ") -> (Tensor means, "
      "Tensor quats, Tensor scales, Tensor opacities, Tensor colors, Tensor viewmats, Tensor background, "
      "Tensor means2d_offset)");
}

STABLE_TORCH_LIBRARY_IMPL(splatdistill, CPU, m) {
  m.impl("rasterize_forward", TORCH_BOX(&rasterize_forward));
  m.impl("rasterize_backward", TORCH_BOX(&rasterize_backward));
}

}  // namespace sd::bind
