#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "masks.h"

namespace espalier::detection {

// A category of a file of annotations.
struct Category {
  int64_t id = 0;    // in the file, where numbers may be missing between the ids
  std::string name;  // its name
};

// An image that a file of annotations names.
struct ImageEntry {
  int64_t id = 0;         // in the file
  std::string file_name;  // relative to the folder of images
  int64_t height = 0;     // pixels
  int64_t width = 0;      // pixels
};

// One object, or one region with a crowd of them.
struct Annotation {
  int64_t id = 0;                             // in the file
  int64_t image = 0;                          // place in Instances::images
  int64_t category = 0;                       // place in Instances::categories, which is the class
  Xywh box{};                                 // pixels of the image
  double area = 0;                            // pixels, as the file says
  bool crowd = false;                         // whether it is a region that holds many objects
  std::vector<std::vector<double>> polygons;  // the outlines of its parts, x and y of each corner in turn, pixels
  std::optional<Rle> rle;                     // in place of polygons

  // Returns whether the file gives a mask.
  bool has_mask() const { return rle || !polygons.empty(); }
};

// What a file in COCO's format of object instances holds.
struct Instances {
  std::string file;                     // where it was read from
  std::vector<Category> categories;     // by their ids, ascending: a class is a place in here
  std::vector<ImageEntry> images;       // by their ids, ascending
  std::vector<Annotation> annotations;  // image by image, those of an image in the order of the file
  std::vector<int64_t> begins;          // where the annotations of each image begin, and the end

  // Returns the annotations of an image, by its place in `images`.
  std::span<const Annotation> of_image(int64_t image) const;
};

// Reads such a file. What is not needed of it is skipped without being kept. An annotation without "iscrowd" is no
// crowd, and one without "area" has the area of its box. Throws InputError that names the file, and the annotation,
// image or category by its id: if the file is not there or not JSON, if a key is missing or holds something else, if an
// id occurs twice, if an annotation is of an unknown image or category, if a polygon cannot be one (see
// mask_of_polygon), or if the mask of runs has another size than its image.
Instances read_instances(const std::string& file);

// Returns the mask of an annotation in its image, the union of its polygons; nothing is set in it if the file gives no
// mask.
Rle mask_of(const Annotation& annotation, const ImageEntry& image);

}  // namespace espalier::detection
