// From the bytes of a PPM file to the network's input, with exactly the pixels of predict.py.
//
// This is Pillow's antialiased resize, as in Pillow's Resample.c. The filter is as wide as the reduction needs. Its
// weights are rounded to 22 binary places. The first pass goes along the rows, the second pass along the columns, and
// each pass is rounded to 8 bits. The weights are doubles, as in Pillow; all other arithmetic uses integers. So the
// pixels equal Pillow's bit by bit.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

// A release, an image or a command line that cannot be used, in one sentence.
struct Unusable : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Rows of pixels, three bytes for each pixel (red, green, blue), without padding.
struct Image {
    long width = 0, height = 0;
    std::vector<uint8_t> rgb;

    const uint8_t* row(long y) const { return rgb.data() + y * width * 3; }
    uint8_t* row(long y) { return rgb.data() + y * width * 3; }
};

// The preprocessing of the release: resize the short side to `resize`, then crop the centre to `size` x `size`.
struct Preprocessing {
    long size = 0, resize = 0;
    bool bicubic = false;
};

constexpr long MAX_ASPECT = 50;             // only the middle of a longer image is used
constexpr long long MAX_PIXELS = 89478485;  // Pillow's limit against decompression bombs
constexpr int PRECISION = 32 - 8 - 2;       // binary places of a weight; two bits remain for overshoot

inline std::string bytes_of(const std::string& path) try {
    std::error_code unknown;  // a file without a status cannot be opened either, and is reported below
    const std::filesystem::file_status found = std::filesystem::status(path, unknown);
    if (std::filesystem::exists(found) && !std::filesystem::is_regular_file(found))  // a pipe would block
        throw Unusable(path + " is no regular file.");
    std::ifstream file(path, std::ios::binary);
    if (!file) throw Unusable(path + " cannot be opened.");
    std::string content{std::istreambuf_iterator<char>(file), {}};
    if (file.bad()) throw Unusable(path + " cannot be read.");
    return content;
} catch (const std::ios_base::failure&) {
    throw Unusable(path + " cannot be read.");
}

// ---- PPM

// Reads the numbers of a header: whitespace separates them, and a comment goes from '#' to the end of the line.
class PpmHeader {
public:
    PpmHeader(const std::string& content, const std::string& path) : content_(content), path_(path) {}

    // Return the next number; the single whitespace behind the number is read too.
    long number(const char* meaning, long least, long most) {
        std::string digits;
        while (position_ < content_.size()) {
            const char c = content_[position_++];
            if (c == '#') {
                while (position_ < content_.size() && content_[position_] != '\n' && content_[position_] != '\r')
                    ++position_;
            } else if (c == ' ' || (c >= '\t' && c <= '\r')) {
                if (!digits.empty()) break;
            } else if (c >= '0' && c <= '9' && digits.size() < 9) {
                digits += c;
            } else {
                throw Unusable(path_ + " is no PPM: its header has no " + meaning + ".");
            }
        }
        const long value = digits.empty() ? -1 : std::stol(digits);
        if (value < least || value > most)
            throw Unusable(path_ + " is no PPM: the " + meaning + " must be from " + std::to_string(least) + " to " +
                           std::to_string(most) + ".");
        return value;
    }

    size_t position() const { return position_; }

private:
    const std::string& content_;
    const std::string& path_;
    size_t position_ = 2;  // behind "P6"
};

// Return the image of a binary PPM; messages about a fault name `path`.
inline Image read_ppm(const std::string& content, const std::string& path) {
    if (content.compare(0, 2, "P6") != 0 || (content.size() > 2 && !std::strchr("# \t\n\v\f\r", content[2])))
        throw Unusable(path + " is no binary PPM (it does not begin with P6); `convert photo.jpg photo.ppm` makes one.");
    PpmHeader header(content, path);
    Image image;
    image.width = header.number("width", 1, 1 << 24);
    image.height = header.number("height", 1, 1 << 24);
    const long most = header.number("largest value", 1, 65535);
    const size_t samples = size_t(image.width) * size_t(image.height) * 3, bytes_each = most < 256 ? 1 : 2;
    if ((long long)image.width * image.height > MAX_PIXELS)
        throw Unusable(path + " claims more than " + std::to_string(MAX_PIXELS) + " pixels.");
    const size_t found = content.size() - header.position();
    if (found < samples * bytes_each)
        throw Unusable(path + " is cut short: " + std::to_string(found) + " bytes of pixels, and " +
                       std::to_string(samples * bytes_each) + " are needed.");
    const uint8_t* from = reinterpret_cast<const uint8_t*>(content.data()) + header.position();
    if (most == 255) {
        image.rgb.assign(from, from + samples);
        return image;
    }
    image.rgb.resize(samples);
    for (size_t i = 0; i < samples; ++i) {
        const int value = bytes_each == 1 ? from[i] : from[2 * i] * 256 + from[2 * i + 1];
        image.rgb[i] = uint8_t(std::min(255.0, std::nearbyint(double(value) / double(most) * 255)));
    }
    return image;
}

inline void write_ppm(const Image& image, const std::string& path) {
    std::ofstream file(path, std::ios::binary);
    file << "P6\n" << image.width << ' ' << image.height << "\n255\n";
    file.write(reinterpret_cast<const char*>(image.rgb.data()), std::streamsize(image.rgb.size()));
    if (!file.flush()) throw Unusable(path + " cannot be written.");
}

// ---- resize and crop

inline double triangle(double x) { return std::max(0.0, 1.0 - std::fabs(x)); }

inline double cubic(double x) {  // Keys (1981) with a = -1/2; the order of operations is Pillow's
    constexpr double a = -0.5;
    x = std::fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

// The input pixels of one resized pixel, from `first` on, and their weights.
struct Window {
    long first = 0;
    std::vector<int> weights;
};

// Return the windows of the resized pixels `begin` to `begin + count`, for a line resized from `from` to `to` pixels.
inline std::vector<Window> windows(long from, long to, long begin, long count, bool bicubic) {
    const double scale = double(from) / double(to), stretch = std::max(scale, 1.0);
    const double support = (bicubic ? 2.0 : 1.0) * stretch;
    std::vector<Window> result(static_cast<size_t>(count));
    for (long i = 0; i < count; ++i) {
        const double centre = (double(begin + i) + 0.5) * scale;
        const long first = std::max(0L, long(centre - support + 0.5));
        const long end = std::min(from, long(centre + support + 0.5));
        std::vector<double> exact;
        double sum = 0.0;
        for (long x = first; x < end; ++x) {
            const double at = (double(x) - centre + 0.5) * (1.0 / stretch);
            exact.push_back(bicubic ? cubic(at) : triangle(at));
            sum += exact.back();
        }
        Window& window = result[size_t(i)];
        window.first = first;
        for (double weight : exact) {
            if (sum != 0.0) weight /= sum;
            window.weights.push_back(int((weight < 0 ? -0.5 : 0.5) + weight * (1 << PRECISION)));
        }
    }
    return result;
}

inline uint8_t rounded(int sum) { return uint8_t(std::clamp(sum >> PRECISION, 0, 255)); }

// Return every row resized to `to` pixels; only `count` pixels from `begin` on are computed.
inline Image resized_rows(const Image& image, long to, long begin, long count, bool bicubic) {
    Image result{count, image.height, std::vector<uint8_t>(size_t(count * image.height * 3))};
    const auto line_windows = windows(image.width, to, begin, count, bicubic);
    for (long y = 0; y < image.height; ++y) {
        uint8_t* out = result.row(y);
        for (const Window& window : line_windows) {
            int sums[3] = {1 << (PRECISION - 1), 1 << (PRECISION - 1), 1 << (PRECISION - 1)};
            const uint8_t* in = image.row(y) + window.first * 3;
            for (int weight : window.weights)
                for (int& sum : sums) sum += *in++ * weight;
            for (int sum : sums) *out++ = rounded(sum);
        }
    }
    return result;
}

// Return every column resized to `to` pixels; only `count` pixels from `begin` on are computed.
inline Image resized_columns(const Image& image, long to, long begin, long count, bool bicubic) {
    Image result{image.width, count, std::vector<uint8_t>(size_t(image.width * count * 3))};
    const auto line_windows = windows(image.height, to, begin, count, bicubic);
    std::vector<int> sums(size_t(image.width * 3));
    for (long y = 0; y < count; ++y) {
        const Window& window = line_windows[size_t(y)];
        std::fill(sums.begin(), sums.end(), 1 << (PRECISION - 1));
        for (size_t k = 0; k < window.weights.size(); ++k) {
            const uint8_t* in = image.row(window.first + long(k));
            for (size_t x = 0; x < sums.size(); ++x) sums[x] += in[x] * window.weights[k];
        }
        std::transform(sums.begin(), sums.end(), result.row(y), rounded);
    }
    return result;
}

inline Image cropped(const Image& image, long left, long top, long width, long height) {
    Image result{width, height, {}};
    for (long y = top; y < top + height; ++y)
        result.rgb.insert(result.rgb.end(), image.row(y) + left * 3, image.row(y) + (left + width) * 3);
    return result;
}

// Return side * resize / shortest, computed exactly and rounded half to even.
inline long resized_side(long side, long shortest, long resize) {
    const long long product = (long long)side * resize, quotient = product / shortest, twice = 2 * (product % shortest);
    return long(quotient) + (twice > shortest || (twice == shortest && quotient % 2 == 1));
}

// Return the network's input, `how.size` x `how.size`. Only the pixels inside the crop are computed.
inline Image preprocessed(const Image& whole, const Preprocessing& how) {
    const long w = std::min(whole.width, MAX_ASPECT * whole.height);
    const long h = std::min(whole.height, MAX_ASPECT * whole.width);
    const Image image = cropped(whole, (whole.width - w) / 2, (whole.height - h) / 2, w, h);
    const long width = resized_side(w, std::min(w, h), how.resize);
    const long height = resized_side(h, std::min(w, h), how.resize);
    const long left = (width - how.size) / 2, top = (height - how.size) / 2;
    const Image flat = width != w ? resized_rows(image, width, left, how.size, how.bicubic)
                                  : cropped(image, left, 0, how.size, h);
    return height != h ? resized_columns(flat, height, top, how.size, how.bicubic)
                       : cropped(flat, 0, top, how.size, how.size);
}
