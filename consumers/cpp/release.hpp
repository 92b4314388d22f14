// Read a release: its checksums, its class names and its preprocessing.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "image.hpp"

// Return the SHA-256 of the bytes, in hexadecimal (FIPS 180-4).
inline std::string sha256(std::string bytes) {
    static constexpr uint32_t K[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    std::array<uint32_t, 8> state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    const uint64_t bits = uint64_t(bytes.size()) * 8;
    bytes += '\x80';
    bytes.append((120 - bytes.size() % 64) % 64, '\0');
    for (int shift = 56; shift >= 0; shift -= 8) bytes += char(bits >> shift & 0xff);
    const auto rotated = [](uint32_t x, int by) { return x >> by | x << (32 - by); };
    for (size_t block = 0; block < bytes.size(); block += 64) {
        uint32_t w[64];
        for (size_t i = 0; i < 16; ++i) {
            w[i] = 0;
            for (size_t k = 0; k < 4; ++k) w[i] = w[i] << 8 | uint8_t(bytes[block + 4 * i + k]);
        }
        for (size_t i = 16; i < 64; ++i)
            w[i] = w[i - 16] + w[i - 7] + (rotated(w[i - 15], 7) ^ rotated(w[i - 15], 18) ^ w[i - 15] >> 3) +
                   (rotated(w[i - 2], 17) ^ rotated(w[i - 2], 19) ^ w[i - 2] >> 10);
        auto [a, b, c, d, e, f, g, h] = state;
        for (size_t i = 0; i < 64; ++i) {
            const uint32_t one = h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i];
            const uint32_t two = (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + one, d = c, c = b, b = a, a = one + two;
        }
        const std::array<uint32_t, 8> mixed = {a, b, c, d, e, f, g, h};
        for (size_t i = 0; i < 8; ++i) state[i] += mixed[i];
    }
    std::string text;
    for (uint32_t word : state)
        for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
    return text;
}

// Return the lines of a text, without line ends.
inline std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
}

// Throw Unusable unless every file in SHA256SUMS exists and is unchanged, and all `used` files are in SHA256SUMS.
inline void verify(const std::string& release, const std::vector<std::string>& used) {
    std::map<std::string, std::string> sealed;
    for (const std::string& line : lines_of(bytes_of(release + "/SHA256SUMS")))
        if (line.size() > 66) sealed[line.substr(66)] = line.substr(0, 64);
    for (const std::string& name : used)
        if (!sealed.count(name))
            throw Unusable(release + "/SHA256SUMS names no " + name + ", so the file cannot be verified.");
    for (const auto& [name, checksum] : sealed)
        if (sha256(bytes_of(release + "/" + name)) != checksum)
            throw Unusable(release + "/" + name +
                           " is not the file that was released: its checksum differs; fetch the release again.");
}

// Return `max_side` of an engine's card.json in pixels, or 0 where the card has none. A text search is enough: a
// quote inside a JSON string has a backslash, so the searched text can only be the key.
inline long read_max_side(const std::string& path) {
    const std::string card = bytes_of(path), key = "\"max_side\": ";
    const size_t place = card.find(key);
    return place == std::string::npos ? 0 : std::atol(card.c_str() + place + key.size());
}

// Return the preprocessing from preprocessing.txt, which has a key and a value in each line.
inline Preprocessing read_preprocessing(const std::string& path) {
    std::map<std::string, std::string> values;
    for (const std::string& line : lines_of(bytes_of(path)))
        if (const size_t space = line.find(' '); space != std::string::npos)
            values[line.substr(0, space)] = line.substr(space + 1);
    const auto pixels = [&](const std::string& key) {
        const std::string& text = values[key];
        const bool number = !text.empty() && text.size() < 7 && std::all_of(text.begin(), text.end(), ::isdigit);
        if (!number || text == "0") throw Unusable(path + ": `" + key + "` is no number of pixels.");
        return std::stol(text);
    };
    const Preprocessing how{pixels("size"), pixels("resize"), values["interpolation"] == "bicubic"};
    if (!how.bicubic && values["interpolation"] != "bilinear")
        throw Unusable(path + ": `interpolation` is neither bilinear nor bicubic.");
    if (how.size > how.resize) throw Unusable(path + ": the crop, `size`, is larger than `resize`.");
    return how;
}
