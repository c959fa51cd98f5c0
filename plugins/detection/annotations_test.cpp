#include "annotations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <espalier/error.h>

#include "sample_files.h"

namespace espalier::detection {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// A file with a list in place of another, as JSON.
struct Made {
  std::string images = R"([{"id": 9, "file_name": "b.jpg", "height": 20, "width": 30, "license": 1},
                           {"id": 4, "file_name": "a.jpg", "height": 2, "width": 3},
                           {"id": 7, "file_name": "none.jpg", "height": 5, "width": 5}])";
  std::string annotations = R"([
    {"id": 30, "image_id": 9, "category_id": 90, "iscrowd": 0, "area": 11.5, "bbox": [1, 1, 4, 3],
     "segmentation": [[1, 1, 1, 4, 5, 4, 5, 1], [10, 10, 10, 12, 12, 12, 12, 10]]},
    {"id": 20, "image_id": 4, "category_id": 1, "iscrowd": 1, "area": 3, "bbox": [1, 0, 2, 2],
     "segmentation": {"size": [2, 3], "counts": [2, 1, 1, 2]}},
    {"id": 10, "image_id": 9, "category_id": 1, "bbox": [0, 0, 0, 5]},
    {"id": 11, "image_id": 9, "category_id": 1, "bbox": [0, 0, 2, 5], "area": 1,
     "segmentation": {"size": [20, 30], "counts": "0Rb0f0"}}])";
  std::string categories = R"([{"id": 90, "name": "disc", "supercategory": "shape"}, {"id": 1, "name": "box"}])";

  std::string text() const {
    return R"({"info": {"year": 2017, "list": [1, {"id": 2}]}, "annotations": )" + annotations + R"(, "images": )" +
           images + R"(, "licenses": [{"id": 1}], "categories": )" + categories + "}";
  }
};

std::string error_of(const std::string& text) {
  const samples::Folder folder;
  try {
    read_instances(folder.write("instances.json", text));
  } catch (const InputError& e) {
    const std::string message = e.what();
    EXPECT_THAT(message, HasSubstr((folder / "instances.json").string() + ": "));
    return message;
  }
  return "";
}

TEST(Annotations, AreReadImageByImage) {
  const samples::Folder folder;
  const Instances all = read_instances(folder.write("instances.json", Made().text()));
  ASSERT_EQ(all.categories.size(), 2U);
  EXPECT_EQ(all.categories[0].name, "box");
  EXPECT_EQ(all.categories[1].id, 90);
  ASSERT_EQ(all.images.size(), 3U);
  EXPECT_EQ(all.images[0].file_name, "a.jpg");
  EXPECT_EQ(all.images[2].width, 30);
  EXPECT_TRUE(all.of_image(1).empty());
  const auto ids = [&](int64_t image) {
    std::vector<int64_t> found;
    for (const Annotation& a : all.of_image(image)) found.push_back(a.id);
    return found;
  };
  EXPECT_THAT(ids(0), ElementsAre(20));
  EXPECT_THAT(ids(2), ElementsAre(30, 10, 11));
  const Annotation& parts = all.of_image(2)[0];
  EXPECT_EQ(parts.category, 1);
  EXPECT_EQ(parts.area, 11.5);
  EXPECT_EQ(area_of(mask_of(parts, all.images[2])), 12 + 4);
  EXPECT_EQ(box_of(mask_of(parts, all.images[2])), (Xywh{1, 1, 11, 11}));
  const Annotation& crowd = all.of_image(0)[0];
  EXPECT_TRUE(crowd.crowd);
  EXPECT_EQ(area_of(mask_of(crowd, all.images[0])), 3);
  const Annotation& bare = all.of_image(2)[1];
  EXPECT_FALSE(bare.has_mask() || bare.crowd);
  EXPECT_EQ(bare.area, 0);
  EXPECT_EQ(area_of(mask_of(bare, all.images[2])), 0);
  // 0 pixels outside, 578 inside and 22 outside.
  EXPECT_EQ(text_of(*all.of_image(2)[2].rle), "0Rb0f0");
}

TEST(Annotations, NameWhatIsDamaged) {
  const auto with = [](std::string Made::*list, const std::string& what, const std::string& in_place) {
    Made made;
    std::string& text = made.*list;
    const size_t at = text.find(what);
    if (at == std::string::npos) ADD_FAILURE() << what << " is not there";
    text.replace(at, what.size(), in_place);
    return error_of(made.text());
  };
  constexpr auto annotations = &Made::annotations, images = &Made::images, categories = &Made::categories;
  EXPECT_THAT(with(annotations, "\"image_id\": 4", "\"image_id\": 5"),
              HasSubstr("annotation 20 is of image 5, which is not among the images"));
  EXPECT_THAT(with(annotations, "\"category_id\": 90", "\"category_id\": 2"),
              HasSubstr("annotation 30 is of category 2, which is not among the categories"));
  EXPECT_THAT(with(annotations, "5, 4, 5, 1]", "5, 4, 5]"),
              HasSubstr("annotation 30 has a damaged mask: a polygon has 7"));
  EXPECT_THAT(with(annotations, "[10, 10, 10, 12, 12, 12, 12, 10]", "[10, 10, 10, 12]"),
              HasSubstr("annotation 30 has a damaged mask: a polygon has 2 corners"));
  EXPECT_THAT(with(annotations, "\"size\": [2, 3]", "\"size\": [3, 2]"),
              HasSubstr("annotation 20 has a mask of 3 x 2 pixels, and its image 4 has 2 x 3"));
  EXPECT_THAT(with(annotations, "[2, 1, 1, 2]", "[2, 1, 1, 1]"),
              HasSubstr("annotation 20 has a damaged mask: its runs come to 5 pixels"));
  EXPECT_THAT(with(annotations, "0Rb0f0", "0Rb"), HasSubstr("annotation 11 has a damaged mask: its compressed text"));
  EXPECT_THAT(with(annotations, "[0, 0, 0, 5]", "[0, 0, -1, 5]"), HasSubstr("annotation 10 has a negative width"));
  EXPECT_THAT(with(annotations, "[0, 0, 0, 5]", "[0, 0, 5]"), HasSubstr("annotation 10 has no x, y, width and height"));
  EXPECT_THAT(with(annotations, "\"id\": 10", "\"id\": 20"), HasSubstr("annotation 20 occurs twice"));
  EXPECT_THAT(with(annotations, "\"id\": 10,", ""), HasSubstr("annotation at place 2 of its list has no \"id\""));
  EXPECT_THAT(with(annotations, "\"iscrowd\": 1", "\"iscrowd\": 2"),
              HasSubstr("annotation 20 has 2 under \"iscrowd\""));
  EXPECT_THAT(with(annotations, "\"area\": 3", "\"area\": \"3\""),
              HasSubstr("annotation 20 has something else than a"));
  EXPECT_THAT(with(images, "\"id\": 7", "\"id\": 4"), HasSubstr("image 4 occurs twice"));
  EXPECT_THAT(with(images, "\"height\": 2,", "\"height\": 0,"), HasSubstr("image 4 has 0 x 3 pixels"));
  EXPECT_THAT(with(images, "\"file_name\": \"a.jpg\",", ""), HasSubstr("image 4 has no \"file_name\""));
  EXPECT_THAT(with(categories, "\"id\": 90", "\"id\": 1"), HasSubstr("category 1 occurs twice"));
  EXPECT_THAT(error_of("[]"), HasSubstr("no object with images"));
  EXPECT_THAT(error_of(R"({"images": [], "annotations": []})"), HasSubstr("has no list \"categories\""));
  EXPECT_THAT(error_of(Made().text().substr(0, 300)),
              AllOf(HasSubstr("is not JSON from byte"), HasSubstr("fetch it again")));
  EXPECT_THAT(with(annotations, "\"area\": 11.5", "\"area\": 1e999"), HasSubstr("cannot be read as JSON"));
  EXPECT_THROW(read_instances("/nonexistent/instances.json"), InputError);
}

}  // namespace
}  // namespace espalier::detection
