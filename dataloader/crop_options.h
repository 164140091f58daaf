// dataloader/crop_options.h - which part of an image reaches the network, and how it is changed.
#pragma once

#include <cstdint>
#include <functional>

namespace convoy {

// The part of an image that a crop is drawn from.
enum class Geometry {
  kSquare2012,  // short side to 256, centre 256 x 256, crop from that square
  kRectangle,   // short side to 256, crop from the whole rectangle
  kSquash,      // both sides to 256, whatever the shape (Caffe)
  // In training a rectangle of random area (8 % to all of the image) and shape (3:4 to 4:3), scaled
  // to the crop, as Inception and torchvision do; otherwise kRectangle.
  kRandomResized,
};

// Random changes of a crop in random order: towards black, towards the crop's mean grey, and
// towards each pixel's own grey. Each has a factor that is drawn evenly from [1 - strength, 1 +
// strength] and is never below 0.
inline constexpr double kMostJitter = 16;  // the largest value of each strength
struct ColourJitter {
  double brightness = 0, contrast = 0, saturation = 0;

  bool any() const { return brightness > 0 || contrast > 0 || saturation > 0; }
};

// PCA colour (paper, section 4.1), per image: one draw of three normals times the components.
enum class ColourNoise {
  kNone,
  k2012,      // standard deviations of the components, whole image then times 1 / (1 + strength)
  kLighting,  // the later constants: 2.2, 7.7 and 17 times weaker
};

struct CropOptions {
  Geometry geometry = Geometry::kSquare2012;
  int resize = 256;    // short side (kSquash: both sides)
  int crop = 224;      // height and width of the result; <= resize
  int channels = 3;    // 1 or 3: grey images are repeated, colour images become luma
  bool random = true;  // random place and mirror; false: centre, not mirrored
  int views = 1;       // 10 with random = false: four corners and centre, each also mirrored
  // How many neighbours in the epoch's order share place and mirror: 32 in the code of 2012.
  int images_per_draw = 1;
  // Large JPEGs are decoded at 1/2 or 1/4 if the result is still no smaller than the resized image.
  // This is faster and gives other pixels.
  bool dct_scaling = false;
  ColourJitter jitter;  // used if random is true
  ColourNoise colour = ColourNoise::kNone;
  // Returns the standard deviation of the draw in an epoch: 0.1 in the paper. A pure function,
  // which any thread may call. It is not called if colour is kNone or random is false.
  std::function<double(int64_t epoch)> colour_strength;
};

}  // namespace convoy
