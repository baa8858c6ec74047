#pragma once

// The rendering rules of gsplat 1.5.3, so that images and gradients can be compared with it.
namespace sd {

constexpr float kAlphaCap = 0.999f;            // a splat never hides more than this
constexpr float kAlphaMin = 1.0f / 255.0f;     // fainter pairs of splat and pixel are skipped
constexpr float kLog2AlphaMin = -7.99435344f;  // log2(kAlphaMin)
constexpr float kTransmittanceMin = 1e-4f;     // a pixel stops before the splat that would leave this or less
constexpr float kMaxExtent = 3.33f;            // half-width of a splat in standard deviations, at opacity 1
constexpr float kFovMargin = 0.3f;             // the Jacobian is taken within (1 + margin) of half the field of view
constexpr float kLn2 = 0.693147180559945309f;
constexpr float kLog2E = 1.44269504088896341f;

}  // namespace sd
