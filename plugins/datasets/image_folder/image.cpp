#include "image.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csetjmp>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include <fcntl.h>
#include <png.h>
#include <tiffio.h>
#include <unistd.h>
#include <webp/decode.h>

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_STDIO
#define STBI_ONLY_BMP
#include <stb/stb_image.h>

// clang-format off
#include <jpeglib.h>
#include <jerror.h>  // its codes depend on the version that the other defines
// clang-format on

#include <espalier/error.h>

namespace espalier {
namespace {

using Bytes = std::vector<uint8_t>;

// What holds more is no photograph but a mistake, or an attack.
constexpr int64_t most_pixels = int64_t{1} << 28;

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw InputError(path, what + "; replace it or take it away");
}

Bytes read_file(const std::string& path) {
  const auto error = [&] { return InputError(path, std::generic_category().message(errno)); };
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw error();
  struct Closed {
    int file;
    ~Closed() { close(file); }
  } const closed{file};
  const off_t size = lseek(file, 0, SEEK_END);
  Bytes bytes(size > 0 ? static_cast<size_t>(size) : 0);
  size_t have = 0;
  while (have < bytes.size()) {
    const ssize_t n = pread(file, bytes.data() + have, bytes.size() - have, static_cast<off_t>(have));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw error();
    if (n == 0) break;  // cut short meanwhile
    have += static_cast<size_t>(n);
  }
  bytes.resize(have);
  return bytes;
}

Image image_of(const std::string& path, int64_t width, int64_t height) {
  if (width < 1 || height < 1 || width > most_pixels / height)
    fail(path, "says that it is " + std::to_string(width) + " x " + std::to_string(height) + " pixels");
  Image image{.width = static_cast<int>(width), .height = static_cast<int>(height), .pixels = nullptr};
  image.pixels = std::make_unique_for_overwrite<uint8_t[]>(image.row_bytes() * static_cast<size_t>(height));
  return image;
}

// libjpeg and libpng report errors by a jump. The functions that they jump back into hold nothing that would have to be
// destroyed or is read afterwards.

struct Jpeg {
  jpeg_decompress_struct info{};
  jpeg_error_mgr errors{};
  std::jmp_buf back{};
  char message[JMSG_LENGTH_MAX] = "";

  Jpeg() = default;
  Jpeg(const Jpeg&) = delete;
  Jpeg& operator=(const Jpeg&) = delete;
  ~Jpeg() { jpeg_destroy_decompress(&info); }
};

[[noreturn]] void jpeg_fails(j_common_ptr info) {
  auto& jpeg = *static_cast<Jpeg*>(info->client_data);
  info->err->format_message(info, jpeg.message);
  std::longjmp(jpeg.back, 1);
}

// Lost pixels are a warning to libjpeg, which makes some up. Others do no harm: spare bytes before a marker are common.
void jpeg_warns(j_common_ptr info, int level) {
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_HIT_MARKER:
    case JWRN_JPEG_EOF:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
      jpeg_fails(info);
    default:
      break;
  }
}

bool begin_jpeg(Jpeg& jpeg, std::span<const uint8_t> bytes) {
  if (setjmp(jpeg.back)) return false;
  jpeg.info.err = jpeg_std_error(&jpeg.errors);
  jpeg.info.client_data = &jpeg;
  jpeg.errors.error_exit = jpeg_fails;
  jpeg.errors.emit_message = jpeg_warns;
  jpeg_create_decompress(&jpeg.info);
  jpeg_mem_src(&jpeg.info, bytes.data(), bytes.size());
  jpeg_read_header(&jpeg.info, TRUE);
  const bool inks = jpeg.info.jpeg_color_space == JCS_CMYK || jpeg.info.jpeg_color_space == JCS_YCCK;
  jpeg.info.out_color_space = inks ? JCS_CMYK : JCS_RGB;
  jpeg_calc_output_dimensions(&jpeg.info);
  return true;
}

// row: of four bytes a pixel, for CMYK.
bool read_jpeg(Jpeg& jpeg, Image& image, uint8_t* row) {
  if (setjmp(jpeg.back)) return false;
  jpeg_start_decompress(&jpeg.info);
  while (jpeg.info.output_scanline < jpeg.info.output_height) {
    uint8_t* to = image.pixels.get() + jpeg.info.output_scanline * image.row_bytes();
    uint8_t* rows[] = {row ? row : to};
    jpeg_read_scanlines(&jpeg.info, rows, 1);
    if (!row) continue;
    for (int x = 0; x < image.width; ++x) {
      for (int c = 0; c < 3; ++c) to[3 * x + c] = static_cast<uint8_t>((row[4 * x + c] * row[4 * x + 3] + 127) / 255);
    }
  }
  jpeg_finish_decompress(&jpeg.info);
  return true;
}

Image jpeg_image(const std::string& path, const Bytes& bytes) {
  Jpeg jpeg;
  if (!begin_jpeg(jpeg, bytes)) fail(path, std::string("a damaged JPEG file: ") + jpeg.message);
  Image image = image_of(path, jpeg.info.output_width, jpeg.info.output_height);
  Bytes row(jpeg.info.out_color_space == JCS_CMYK ? size_t{4} * jpeg.info.output_width : 0);
  if (!read_jpeg(jpeg, image, row.empty() ? nullptr : row.data()))
    fail(path, std::string("a damaged JPEG file: ") + jpeg.message);
  return image;
}

struct Png {
  std::span<const uint8_t> bytes;  // not yet read
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::jmp_buf back{};
  char message[200] = "";

  explicit Png(std::span<const uint8_t> all) : bytes(all) {}
  Png(const Png&) = delete;
  Png& operator=(const Png&) = delete;
  ~Png() { png_destroy_read_struct(&png, &info, nullptr); }
};

[[noreturn]] void png_fails(png_structp png, png_const_charp message) {
  auto& state = *static_cast<Png*>(png_get_error_ptr(png));
  std::snprintf(state.message, sizeof state.message, "%s", message);
  std::longjmp(state.back, 1);
}

void png_warns(png_structp, png_const_charp) {}

void png_reads(png_structp png, png_bytep to, size_t n) {
  auto& state = *static_cast<Png*>(png_get_io_ptr(png));
  if (n > state.bytes.size()) png_fails(png, "it ends too early");
  std::memcpy(to, state.bytes.data(), n);
  state.bytes = state.bytes.subspan(n);
}

bool begin_png(Png& state) {
  if (setjmp(state.back)) return false;
  state.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &state, png_fails, png_warns);
  if (!state.png) return false;
  state.info = png_create_info_struct(state.png);
  if (!state.info) return false;
  png_set_read_fn(state.png, &state, png_reads);
  png_read_info(state.png, state.info);
  png_set_palette_to_rgb(state.png);
  png_set_expand_gray_1_2_4_to_8(state.png);
  png_set_scale_16(state.png);
  png_set_strip_alpha(state.png);
  png_set_gray_to_rgb(state.png);
  return true;
}

bool read_png(Png& state, Image& image) {
  if (setjmp(state.back)) return false;
  const int passes = png_set_interlace_handling(state.png);
  png_read_update_info(state.png, state.info);
  if (png_get_rowbytes(state.png, state.info) != image.row_bytes()) png_error(state.png, "an unknown form of pixels");
  for (int pass = 0; pass < passes; ++pass) {
    for (int y = 0; y < image.height; ++y)
      png_read_row(state.png, image.pixels.get() + static_cast<size_t>(y) * image.row_bytes(), nullptr);
  }
  png_read_end(state.png, nullptr);
  return true;
}

Image png_image(const std::string& path, const Bytes& bytes) {
  Png state(bytes);
  if (!begin_png(state)) fail(path, std::string("a damaged PNG file: ") + state.message);
  Image image = image_of(path, png_get_image_width(state.png, state.info), png_get_image_height(state.png, state.info));
  if (!read_png(state, image)) fail(path, std::string("a damaged PNG file: ") + state.message);
  return image;
}

Image webp_image(const std::string& path, const Bytes& bytes) {
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(bytes.data(), bytes.size(), &features) != VP8_STATUS_OK) fail(path, "a damaged WebP file");
  if (features.has_animation) fail(path, "an animated WebP file, and no image");
  Image image = image_of(path, features.width, features.height);
  const size_t size = image.row_bytes() * static_cast<size_t>(image.height);
  const auto row = static_cast<int>(image.row_bytes());
  if (!WebPDecodeRGBInto(bytes.data(), bytes.size(), image.pixels.get(), size, row))
    fail(path, "a damaged WebP file: its pixels cannot be read");
  return image;
}

Image bmp_image(const std::string& path, const Bytes& bytes) {
  int width = 0, height = 0, channels = 0;
  const auto size = static_cast<int>(std::min<size_t>(bytes.size(), INT_MAX));
  const auto damaged = [&] { fail(path, std::string("a damaged BMP file: ") + stbi_failure_reason()); };
  if (!stbi_info_from_memory(bytes.data(), size, &width, &height, &channels)) damaged();
  Image image = image_of(path, width, height);
  // The library takes what is missing as zeros. Rows of whole 32 bits lie behind the offset that the header names; how
  // many bits a pixel has stands in another place of the oldest headers.
  const auto number = [&](size_t at, size_t n) {
    int64_t value = 0;
    for (size_t i = n; i-- > 0;) value = value << 8 | (at + i < bytes.size() ? bytes[at + i] : 0);
    return value;
  };
  const int64_t bits = number(number(14, 4) == 12 ? 24 : 28, 2);
  if (number(10, 4) + (width * bits + 31) / 32 * 4 * height > static_cast<int64_t>(bytes.size()))
    fail(path, "a damaged BMP file: it ends too early");
  const std::unique_ptr<uint8_t, void (*)(void*)> pixels(
      stbi_load_from_memory(bytes.data(), size, &width, &height, &channels, 3), stbi_image_free);
  if (!pixels) damaged();
  std::copy_n(pixels.get(), image.row_bytes() * static_cast<size_t>(image.height), image.pixels.get());
  return image;
}

// A file in memory, as libtiff reads files.
struct TiffFile {
  std::span<const uint8_t> bytes;
  size_t at = 0;
  std::string message;

  static TiffFile& of(thandle_t handle) { return *static_cast<TiffFile*>(handle); }
  static tmsize_t read(thandle_t handle, void* to, tmsize_t size) {
    TiffFile& f = of(handle);
    const size_t n = std::min(static_cast<size_t>(std::max<tmsize_t>(0, size)), f.bytes.size() - f.at);
    std::memcpy(to, f.bytes.data() + f.at, n);
    f.at += n;
    return static_cast<tmsize_t>(n);
  }
  static toff_t seek(thandle_t handle, toff_t offset, int from) {
    TiffFile& f = of(handle);
    const toff_t base = from == SEEK_SET ? 0 : from == SEEK_CUR ? f.at : f.bytes.size();
    const toff_t to = base + offset;
    if (to > f.bytes.size()) return static_cast<toff_t>(-1);
    return f.at = to;
  }
  static int says(TIFF*, void* handle, const char*, const char* format, va_list values) {
    char text[200];
    std::vsnprintf(text, sizeof text, format, values);
    TiffFile& f = of(handle);
    if (f.message.empty()) f.message = text;
    return 1;
  }
};

Image tiff_image(const std::string& path, const Bytes& bytes) {
  TiffFile file{bytes, 0, {}};
  const std::unique_ptr<TIFFOpenOptions, void (*)(TIFFOpenOptions*)> options(TIFFOpenOptionsAlloc(),
                                                                             TIFFOpenOptionsFree);
  TIFFOpenOptionsSetErrorHandlerExtR(options.get(), TiffFile::says, &file);
  TIFFOpenOptionsSetWarningHandlerExtR(
      options.get(), [](TIFF*, void*, const char*, const char*, va_list) { return 1; }, nullptr);
  const std::unique_ptr<TIFF, void (*)(TIFF*)> tiff(
      TIFFClientOpenExt(
          path.c_str(), "rm", &file, TiffFile::read, [](thandle_t, void*, tmsize_t) -> tmsize_t { return -1; },
          TiffFile::seek, [](thandle_t) { return 0; },
          [](thandle_t handle) -> toff_t { return TiffFile::of(handle).bytes.size(); }, nullptr, nullptr,
          options.get()),
      [](TIFF* t) {
        if (t) TIFFClose(t);
      });
  const auto damaged = [&] { fail(path, "a damaged TIFF file: " + file.message); };
  uint32_t width = 0, height = 0;
  if (!tiff || !TIFFGetField(tiff.get(), TIFFTAG_IMAGEWIDTH, &width) ||
      !TIFFGetField(tiff.get(), TIFFTAG_IMAGELENGTH, &height)) {
    damaged();
  }
  Image image = image_of(path, width, height);
  std::vector<uint32_t> pixels(size_t{width} * height);
  if (!TIFFReadRGBAImageOriented(tiff.get(), width, height, pixels.data(), ORIENTATION_TOPLEFT, /*stopOnError=*/1))
    damaged();
  uint8_t* to = image.pixels.get();
  for (const uint32_t p : pixels) {
    *to++ = static_cast<uint8_t>(TIFFGetR(p));
    *to++ = static_cast<uint8_t>(TIFFGetG(p));
    *to++ = static_cast<uint8_t>(TIFFGetB(p));
  }
  return image;
}

bool begins_with(const Bytes& bytes, std::initializer_list<uint8_t> magic) {
  return bytes.size() >= magic.size() && std::equal(magic.begin(), magic.end(), bytes.begin());
}

}  // namespace

Image read_image(const std::string& path) {
  const Bytes bytes = read_file(path);
  if (begins_with(bytes, {0xff, 0xd8, 0xff})) return jpeg_image(path, bytes);
  if (begins_with(bytes, {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'})) return png_image(path, bytes);
  if (begins_with(bytes, {'R', 'I', 'F', 'F'}) && bytes.size() >= 12 && std::memcmp(&bytes[8], "WEBP", 4) == 0)
    return webp_image(path, bytes);
  if (begins_with(bytes, {'B', 'M'})) return bmp_image(path, bytes);
  for (const auto& magic :
       {std::initializer_list<uint8_t>{'I', 'I', 42, 0}, {'M', 'M', 0, 42}, {'I', 'I', 43, 0}, {'M', 'M', 0, 43}}) {
    if (begins_with(bytes, magic)) return tiff_image(path, bytes);
  }
  if (bytes.empty()) fail(path, "is empty");
  fail(path, "is no JPEG, PNG, WebP, BMP or TIFF file, by its first bytes");
}

}  // namespace espalier
