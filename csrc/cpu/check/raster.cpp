#include <algorithm>
#include <numeric>

#include "scene.h"

// The rasteriser, stage by stage: each stage gets what `generic` made of the stages before, so that only its own
// rounding shows. Blending is held against arithmetic in double, also at `generic`.
namespace sd::check {
namespace {

// Fewer than 128 roundings lie between the inputs and any number of the projection, forward or backward; two levels
// may differ by twice as much, in units of the largest number of a column: scenes are so tame that no term is larger.
constexpr double kProjection = 256.0 * kUnit;

Projected run_project(const Kernels& level, const Scene& scene, int threads) {
  RasterConfig config = scene.config;
  config.num_threads = threads;
  const size_t rows = static_cast<size_t>(config.num_views * config.num_splats);
  Projected p{std::vector<ProjectedSplat>(rows), std::vector<float>(2 * rows), std::vector<int32_t>(2 * rows)};
  level.project(config, scene.cameras.data(), scene.inputs(), p.records.data(), p.means2d.data(), p.radii.data());
  return p;
}

Lists run_tiles(const Kernels& level, const Scene& scene, const Projected& projected, int threads) {
  RasterConfig config = scene.config;
  config.num_threads = threads;
  const TileBinner tiles(config, projected.records.data());
  const size_t entries = static_cast<size_t>(tiles.num_entries());
  Lists lists{std::vector<int32_t>(static_cast<size_t>(num_tiles(config)) + 1), std::vector<int32_t>(entries),
              std::vector<uint16_t>(entries), std::vector<uint16_t>(entries)};
  tiles.fill(lists.raw(), level);
  return lists;
}

Pictures make_pictures(const RasterConfig& config) {
  const size_t pixels = static_cast<size_t>(config.num_views * config.height * config.width);
  return {std::vector<float>(pixels * static_cast<size_t>(config.num_channels)), std::vector<float>(pixels),
          std::vector<float>(pixels)};
}

BlendInputs blend_inputs(const Scene& scene, const Projected& projected, const Lists& lists) {
  return {projected.records.data(), scene.colors.data(), scene.background.data(), lists.raw()};
}

Pictures run_blend(const Kernels& level, const Scene& scene, const Projected& projected, Lists& lists, int threads) {
  RasterConfig config = scene.config;
  config.num_threads = threads;
  Pictures out = make_pictures(config);
  level.blend(config, blend_inputs(scene, projected, lists), out.raw());
  return out;
}

struct Sums {
  std::vector<float> entries, background;
};

Sums run_blend_backward(const Kernels& level, const Scene& scene, const Projected& projected, const Lists& lists,
                        const Pictures& images, const Pictures& grads, int threads) {
  RasterConfig config = scene.config;
  config.num_threads = threads;
  const size_t size = lists.ids.size() * static_cast<size_t>(entry_sums(config)) + kPadding;
  Sums out{std::vector<float>(size), std::vector<float>(static_cast<size_t>(num_tiles(config) * config.num_channels))};
  level.blend_backward(config, blend_inputs(scene, projected, lists), images.raw(), grads.raw(), out.entries.data(),
                       out.background.data());
  return out;
}

struct Gradients {
  std::vector<float> means, quats, scales, opacities, colors, means2d, viewmats, partial;
};

Gradients run_project_backward(const Kernels& level, const Scene& scene, const Projected& projected, const Lists& lists,
                               const Sums& sums, const std::vector<float>& v_means2d, int threads) {
  RasterConfig config = scene.config;
  config.num_threads = threads;
  const size_t n = static_cast<size_t>(config.num_splats), views = static_cast<size_t>(config.num_views);
  Gradients g{std::vector<float>(3 * n),
              std::vector<float>(4 * n),
              std::vector<float>(3 * n),
              std::vector<float>(n),
              std::vector<float>(scene.colors.size()),
              std::vector<float>(2 * n * views),
              std::vector<float>(16 * views),
              std::vector<float>(static_cast<size_t>(camera_partials(config)))};
  std::vector<float> entries = sums.entries;  // added up in place
  std::vector<int32_t> rows(n * views);
  level.project_backward(config, scene.cameras.data(), scene.inputs(),
                         {projected.radii.data(), lists.raw(), entries.data(), rows.data(), v_means2d.data()},
                         {g.means.data(), g.quats.data(), g.scales.data(), g.opacities.data(), g.colors.data(),
                          g.means2d.data(), g.viewmats.data(), g.partial.data()});
  return g;
}

// The largest number of each of `width` columns, times `factor`, for every number.
std::vector<double> column_bound(const std::vector<float>& want, size_t width, double factor) {
  std::vector<double> largest(width), out;
  for (size_t i = 0; i < want.size(); ++i)
    if (std::isfinite(want[i]))
      largest[i % width] = std::fmax(largest[i % width], std::fabs(static_cast<double>(want[i])));
  for (size_t i = 0; i < want.size(); ++i) out.push_back(factor * largest[i % width]);
  return out;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), sizeof(T) * a.size()) == 0);
}

void check_project(Check& check, const Kernels& level, const std::string& name, const Scene& scene,
                   const Projected& want) {
  check.begin(level.name, "project");
  const Projected got = run_project(level, scene, 1), two = run_project(level, scene, 2);
  check.require(name + ", two threads", same_bits(got.records, two.records) && same_bits(got.means2d, two.means2d) &&
                                            same_bits(got.radii, two.radii));
  // Where rounding moves an extent past a whole pixel, radii and boxes differ by one: rare, and left out of the rest.
  constexpr size_t kFields = 7 + kRecordChannels;
  std::vector<float> fields, want_fields, means, want_means;
  size_t jumps = 0;
  for (size_t i = 0; i < want.records.size(); ++i) {
    const ProjectedSplat &a = got.records[i], &b = want.records[i];
    if (std::memcmp(&a.box, &b.box, sizeof a.box) != 0 || std::memcmp(&got.radii[2 * i], &want.radii[2 * i], 8) != 0) {
      ++jumps;
      continue;
    }
    fields.insert(fields.end(), &a.x, &a.x + kFields);
    want_fields.insert(want_fields.end(), &b.x, &b.x + kFields);
    means.insert(means.end(), &got.means2d[2 * i], &got.means2d[2 * i] + 2);
    want_means.insert(want_means.end(), &want.means2d[2 * i], &want.means2d[2 * i] + 2);
  }
  check.require(name + ", radii and boxes", jumps <= 1 + want.records.size() / 100);
  check.within(name + ", records", fields, want_fields, column_bound(want_fields, kFields, kProjection));
  check.within(name + ", means2d", means, want_means, column_bound(want_means, 2, kProjection));

  // A splat's lane and its neighbours are nothing to it: alone it gives the same bits.
  for (int64_t i = 0; i < std::min<int64_t>(scene.config.num_splats, 9); ++i) {
    Scene one = scene;
    const size_t at = static_cast<size_t>(i), n = static_cast<size_t>(scene.config.num_splats);
    const size_t width = scene.colors.size() / n / (scene.config.colors_per_view ? scene.cameras.size() : 1);
    one.config.num_splats = 1;
    const auto row = [&](std::vector<float>& v, size_t size) {
      v = std::vector<float>(v.begin() + static_cast<long>(at * size), v.begin() + static_cast<long>((at + 1) * size));
    };
    row(one.means, 3);
    row(one.quats, 4);
    row(one.scales, 3);
    row(one.opacities, 1);
    one.offsets.clear();
    one.colors.clear();
    for (size_t view = 0; view < scene.cameras.size(); ++view) {
      one.offsets.insert(one.offsets.end(), &scene.offsets[2 * (view * n + at)],
                         &scene.offsets[2 * (view * n + at)] + 2);
      if (view > 0 && !scene.config.colors_per_view) continue;
      const float* color = &scene.colors[(view * n + at) * width];
      one.colors.insert(one.colors.end(), color, color + width);
    }
    const Projected alone = run_project(level, one, 1);
    for (size_t view = 0; view < scene.cameras.size(); ++view)
      check.require(name + ", splat " + std::to_string(i) + " alone",
                    std::memcmp(&alone.records[view], &got.records[view * n + at], sizeof(ProjectedSplat)) == 0 &&
                        std::memcmp(&alone.radii[2 * view], &got.radii[2 * (view * n + at)], 8) == 0);
  }
}

void check_tiles(Check& check, const Kernels& level, const std::string& name, const Scene& scene,
                 const Projected& projected) {
  check.begin(level.name, "tiles");
  const Lists got = run_tiles(level, scene, projected, 1), two = run_tiles(level, scene, projected, 2);
  check.require(name + ", two threads", got.offsets == two.offsets && got.ids == two.ids && got.masks == two.masks);
  const RasterConfig& config = scene.config;
  std::vector<int32_t> offsets = {0}, ids;
  std::vector<uint16_t> masks;
  for (int64_t view = 0; view < config.num_views; ++view) {
    std::vector<int32_t> order;
    for (int64_t i = 0; i < config.num_splats; ++i) order.push_back(static_cast<int32_t>(view * config.num_splats + i));
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return projected.records[static_cast<size_t>(a)].depth < projected.records[static_cast<size_t>(b)].depth;
    });
    for (int64_t tile = 0; tile < tiles_per_view(config); ++tile) {
      const int left = static_cast<int>(tile % tiles_x(config)) * kTileBlocks,
                top = static_cast<int>(tile / tiles_x(config)) * kTileBlocks;
      for (const int32_t id : order) {
        const BlockBox& box = projected.records[static_cast<size_t>(id)].box;
        unsigned mask = 0;
        for (int k = 0; k < kTileBlocks * kTileBlocks; ++k) {
          const int x = left + k % kTileBlocks, y = top + k / kTileBlocks;
          if (x >= box.x0 && x < box.x1 && y >= box.y0 && y < box.y1) mask |= 1u << k;
        }
        if (mask == 0) continue;
        ids.push_back(id);
        masks.push_back(static_cast<uint16_t>(mask));
      }
      offsets.push_back(static_cast<int32_t>(ids.size()));
    }
  }
  check.equal(name + ", offsets", got.offsets, offsets);
  check.equal(name + ", ids", got.ids, ids);
  check.equal(name + ", masks", got.masks, masks);
}

void check_blend(Check& check, const Kernels& level, const std::string& name, const Scene& scene,
                 const Projected& projected, Lists& lists, const Blended& want) {
  check.begin(level.name, "blend");
  Lists again = lists;
  Pictures got = run_blend(level, scene, projected, lists, 1);
  const Pictures two = run_blend(level, scene, projected, again, 2);
  check.require(name + ", two threads", same_bits(got.color, two.color) && same_bits(got.alpha, two.alpha) &&
                                            same_bits(got.depth, two.depth) && lists.hits == again.hits);
  size_t unsure = 0;
  const size_t channels = static_cast<size_t>(scene.config.num_channels);
  for (size_t i = 0; i < want.unsure.size(); ++i) {
    if (!want.unsure[i]) continue;
    ++unsure;
    got.alpha[i] = static_cast<float>(want.alpha[i]);
    got.depth[i] = static_cast<float>(want.depth[i]);
    for (size_t c = 0; c < channels; ++c)
      got.color[i * channels + c] = static_cast<float>(want.color[i * channels + c]);
  }
  check.require(name + ", most pixels are sure", unsure <= 8 + want.unsure.size() / 5);
  check.within(name + ", colour", got.color, want.color, want.color_bound);
  check.within(name + ", alpha", got.alpha, want.alpha, want.alpha_bound);
  check.within(name + ", depth", got.depth, want.depth, want.depth_bound);
  std::vector<uint16_t> sure = lists.hits, wanted = want.hits;
  for (size_t tile = 0; tile < want.unsure_blocks.size(); ++tile)
    for (int32_t e = lists.offsets[tile]; e < lists.offsets[tile + 1]; ++e) {
      sure[static_cast<size_t>(e)] &= static_cast<uint16_t>(~want.unsure_blocks[tile]);
      wanted[static_cast<size_t>(e)] &= static_cast<uint16_t>(~want.unsure_blocks[tile]);
    }
  check.equal(name + ", hits", sure, wanted);
}

void check_blend_backward(Check& check, const Kernels& level, const std::string& name, const Scene& scene,
                          const Projected& projected, const Lists& lists, const Pictures& images, const Pictures& grads,
                          const BlendedSums& want) {
  check.begin(level.name, "blend_backward");
  const Sums got = run_blend_backward(level, scene, projected, lists, images, grads, 1);
  const Sums two = run_blend_backward(level, scene, projected, lists, images, grads, 2);
  check.require(name + ", two threads",
                same_bits(got.entries, two.entries) && same_bits(got.background, two.background));
  const size_t stride = static_cast<size_t>(entry_sums(scene.config)),
               used = static_cast<size_t>(kColorSums + scene.config.num_channels);
  std::vector<float> sums;
  std::vector<double> wanted, bound;
  for (size_t e = 0; e < lists.ids.size(); ++e)
    for (size_t k = 0; k < used; ++k) {
      sums.push_back(got.entries[e * stride + k]);
      wanted.push_back(want.sums[e * stride + k]);
      bound.push_back(want.bound[e * stride + k]);
    }
  check.within(name + ", sums", sums, wanted, bound);
}

void check_project_backward(Check& check, const Kernels& level, const Kernels& generic, const std::string& name,
                            const Scene& scene, const Projected& projected, const Lists& lists, const Sums& sums,
                            const std::vector<float>& v_means2d) {
  check.begin(level.name, "project_backward");
  const Gradients got = run_project_backward(level, scene, projected, lists, sums, v_means2d, 1);
  const Gradients two = run_project_backward(level, scene, projected, lists, sums, v_means2d, 2);
  const Gradients want = run_project_backward(generic, scene, projected, lists, sums, v_means2d, 1);
  const auto compare = [&](const char* what, const std::vector<float>& a, const std::vector<float>& b,
                           const std::vector<float>& c, size_t width) {
    check.within(name + ", " + what, a, c, column_bound(c, width, kProjection));
    check.require(name + ", " + what + ", two threads", same_bits(a, b));
  };
  compare("means", got.means, two.means, want.means, 1);
  compare("quats", got.quats, two.quats, want.quats, 1);
  compare("scales", got.scales, two.scales, want.scales, 1);
  compare("opacities", got.opacities, two.opacities, want.opacities, 1);
  compare("colors", got.colors, two.colors, want.colors, 1);
  compare("means2d", got.means2d, two.means2d, want.means2d, 1);
  // A camera's gradient adds up the terms of all splats, then meets the camera's centre, 2.5 away.
  double size = 0.0;
  for (const float partial : want.partial) size += std::fabs(static_cast<double>(partial));
  check.within(name + ", viewmats", got.viewmats, want.viewmats,
               std::vector<double>(want.viewmats.size(), 8.0 * kProjection * size));
  for (int64_t i = 0; i < scene.config.num_splats; ++i) {
    bool seen = false;
    for (int64_t view = 0; view < scene.config.num_views; ++view)
      seen |= projected.radii[static_cast<size_t>(2 * (view * scene.config.num_splats + i))] > 0;
    const size_t at = static_cast<size_t>(i);
    if (!seen)
      check.require(name + ", no gradient for a splat not seen",
                    got.means[3 * at] == 0.0f && got.quats[4 * at] == 0.0f && got.scales[3 * at] == 0.0f &&
                        got.opacities[at] == 0.0f);
  }
}

void raster_case(Check& check, const Kernels& level, const Kernels& generic, Random& random, const Shape& shape) {
  const std::string name = std::to_string(shape.num_splats) + " splats, " + std::to_string(shape.num_views) + " x " +
                           std::to_string(shape.width) + "x" + std::to_string(shape.height) + ", " +
                           std::to_string(shape.num_channels) + " channels, harmonics " +
                           std::to_string(shape.sh_degree) + (shape.broken ? ", broken" : "");
  const Scene scene = make_scene(random, shape);
  const Projected projected = run_project(generic, scene, 1);
  check_project(check, level, name, scene, projected);
  check_tiles(check, level, name, scene, projected);
  Lists lists = run_tiles(generic, scene, projected, 1);
  const Blended blended = blend_in_double(scene, projected, lists);
  check_blend(check, level, name, scene, projected, lists, blended);
  const Pictures images = run_blend(generic, scene, projected, lists, 1);
  Pictures grads = {normals(random, static_cast<int64_t>(images.color.size())),
                    normals(random, static_cast<int64_t>(images.alpha.size())),
                    normals(random, static_cast<int64_t>(images.depth.size()))};
  for (size_t i = 0; i < blended.unsure.size(); ++i) {
    if (!blended.unsure[i]) continue;
    grads.alpha[i] = grads.depth[i] = 0.0f;
    std::fill_n(grads.color.begin() + static_cast<long>(i) * shape.num_channels, shape.num_channels, 0.0f);
  }
  const BlendedSums want = blend_backward_in_double(scene, projected, lists, images, grads);
  check_blend_backward(check, level, name, scene, projected, lists, images, grads, want);
  const Sums sums = run_blend_backward(generic, scene, projected, lists, images, grads, 1);
  check_project_backward(check, level, generic, name, scene, projected, lists, sums,
                         normals(random, 2 * shape.num_views * shape.num_splats));
}

void check_raster(Check& check, const Kernels& level, const Kernels& generic) {
  constexpr Shape kShapes[] = {
      {0, 1, 16, 16, 3, -1, false, false},   {1, 1, 1, 1, 1, -1, false, false},   {3, 2, 17, 5, 3, -1, false, false},
      {4, 1, 33, 20, 4, -1, true, false},    {5, 2, 20, 33, 2, -1, true, false},  {8, 0, 16, 16, 3, -1, false, false},
      {15, 1, 31, 16, 3, 3, false, false},   {16, 2, 16, 31, 3, 2, false, false}, {17, 3, 47, 19, 3, 1, false, false},
      {33, 1, 40, 40, 5, -1, false, false},  {64, 2, 24, 24, 3, 0, false, false}, {200, 2, 40, 37, 3, -1, false, false},
      {400, 1, 36, 36, 19, -1, true, false}, {40, 2, 33, 33, 3, -1, false, true}, {37, 2, 33, 33, 3, 3, false, true},
  };
  Random random(1);
  for (const Shape& shape : kShapes) raster_case(check, level, generic, random, shape);
}

const EachSimdLevel registered(check_raster);

}  // namespace
}  // namespace sd::check
