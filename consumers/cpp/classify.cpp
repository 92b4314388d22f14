// Classify decoded images (PPM) with a release through OpenVINO, as predict.py does.

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <numeric>
#include <openvino/openvino.hpp>
#include <sys/stat.h>

#include "image.hpp"
#include "release.hpp"

constexpr const char* USAGE =
    "usage: classify RELEASE IMAGE.ppm... [--top N] [--engine NAME] [--pixels FILE.ppm]\n"
    "\n"
    "Print the most likely class of each image: image, class id, class name and score, separated by tabs.\n"
    "  RELEASE          the folder that holds SHA256SUMS; the checksums are verified first\n"
    "  IMAGE.ppm        a decoded image: binary PPM (P6), RGB, upright, of any size\n"
    "  --top N          classes to print for each image (1)\n"
    "  --engine NAME    run engines/NAME, such as openvino-fp32, instead of model/model.onnx\n"
    "  --pixels FILE    write the pixels of the last image, as the model takes them, as PPM\n"
    "Exit code 0: all images were classified. Exit code 2: something could not be used, and a sentence names it.\n";

struct Options {
    std::string release, engine, pixels;
    std::vector<std::string> images;
    size_t top = 1;
};

Options parsed(const std::vector<std::string>& words) {
    Options options;
    for (size_t i = 0; i < words.size(); ++i) {
        const std::string& word = words[i];
        if (word.rfind("--", 0) != 0) {
            (options.release.empty() ? options.release : options.images.emplace_back()) = word;
            continue;
        }
        if (i + 1 == words.size()) throw Unusable(word + " needs a value, or is no option.");
        const std::string& value = words[++i];
        if (word == "--top") {
            const bool number = value.size() < 10 && std::all_of(value.begin(), value.end(), ::isdigit);
            options.top = number && !value.empty() ? std::stoul(value) : 0;
            if (options.top == 0) throw Unusable("--top needs a number of at least 1, not '" + value + "'.");
        } else if (word == "--engine") {
            options.engine = value;
        } else if (word == "--pixels") {
            options.pixels = value;
        } else {
            throw Unusable("there is no option " + word + ".");
        }
    }
    if (options.images.empty()) throw Unusable("name the release and at least one image; --help shows how.");
    return options;
}

// Return the path in the release of the model to run.
std::string model_of(const Options& options) {
    if (options.engine.empty()) return "model/model.onnx";
    const std::string folder = "engines/" + options.engine;
    struct stat found {};
    for (const char* name : {"/model.xml", "/model.onnx"})
        if (stat((options.release + "/" + folder + name).c_str(), &found) == 0) return folder + name;
    throw Unusable(options.release + " has no engine " + options.engine + " that OpenVINO reads.");
}

// Tell whether the model computes in bfloat16: such a model has weights in bfloat16.
bool holds_bfloat16(const std::shared_ptr<ov::Model>& model) {
    for (const auto& node : model->get_ops())
        if (std::string(node->get_type_name()) == "Constant" && node->get_element_type() == ov::element::bf16) return true;
    return false;
}

// Return the model for this CPU, in the precision that the gate judged. By default, OpenVINO uses bfloat16 for every
// model on a CPU with bfloat16.
ov::CompiledModel opened(const std::string& path) {
    try {
        ov::Core core;
        const auto model = core.read_model(path);
        const auto precision = holds_bfloat16(model) ? ov::element::bf16 : ov::element::f32;
        const auto able = core.get_property("CPU", ov::device::capabilities);
        if (precision == ov::element::bf16 && std::find(able.begin(), able.end(), "BF16") == able.end())
            throw Unusable(path + " computes in bfloat16, which this CPU lacks; use another engine, or no --engine.");
        return core.compile_model(model, "CPU", ov::hint::inference_precision(precision),
                                  ov::hint::execution_mode(ov::hint::ExecutionMode::ACCURACY));
    } catch (const Unusable&) {
        throw;
    } catch (const std::exception& fault) {
        std::string reason;  // the last line; the lines before it name OpenVINO's sources
        for (const std::string& line : lines_of(fault.what()))
            if (line.find_first_not_of(" \t") != std::string::npos) reason = line;
        throw Unusable("OpenVINO cannot read " + path + ": " + reason);
    }
}

// The opened model; scores are probabilities, in the order of class ids.
class Classifier {
public:
    Classifier(const Options& options, const std::string& model) {
        const std::string card = model.substr(0, model.rfind('/')) + "/card.json";
        verify(options.release, {model, card, "labels.txt", "preprocessing.txt"});
        names = lines_of(bytes_of(options.release + "/labels.txt"));
        how = read_preprocessing(options.release + "/preprocessing.txt");
        ov::CompiledModel compiled = opened(options.release + "/" + model);
        request_ = compiled.create_infer_request();
        const auto size = ov::Dimension(how.size);
        const ov::PartialShape takes = compiled.input().get_partial_shape();
        if (compiled.input().get_element_type() != ov::element::u8 || !takes.compatible({1, size, size, 3}))
            throw Unusable(model + " does not take the images that preprocessing.txt describes.");
        if (takes[1].is_static() || takes[2].is_static()) return;
        max_side_ = read_max_side(options.release + "/" + card);
        if (max_side_ == 0) throw Unusable(model + " takes images of any size, but its card.json has no max_side.");
    }

    // Return the image as the model takes it; a model that takes any size resizes and crops by itself.
    Image prepared(const Image& decoded, const std::string& path) const {
        if (max_side_ == 0) return preprocessed(decoded, how);
        if (std::max(decoded.width, decoded.height) > max_side_)
            throw Unusable(path + " has " + std::to_string(decoded.width) + " x " + std::to_string(decoded.height) +
                           " pixels, and the engine takes up to " + std::to_string(max_side_) + " a side.");
        return decoded;
    }

    std::vector<double> scores(const Image& image, const std::string& path) {
        ov::Tensor input(ov::element::u8, {1, size_t(image.height), size_t(image.width), 3});
        std::copy(image.rgb.begin(), image.rgb.end(), input.data<uint8_t>());
        request_.set_input_tensor(input);
        request_.infer();
        const ov::Tensor logits = request_.get_output_tensor();
        if (logits.get_size() != names.size())
            throw Unusable("labels.txt has " + std::to_string(names.size()) + " names, and the model gives " +
                           std::to_string(logits.get_size()) + " scores.");
        const float* first = logits.data<const float>();
        if (!std::all_of(first, first + names.size(), [](float logit) { return std::isfinite(logit); }))
            throw Unusable(path + " cannot be classified: the model gives a score that is not finite.");
        std::vector<double> shares(first, first + names.size());
        const double highest = *std::max_element(shares.begin(), shares.end());
        for (double& share : shares) share = std::exp(share - highest);
        const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
        for (double& share : shares) share /= sum;
        return shares;
    }

    std::vector<std::string> names;  // with the escapes of labels.txt
    Preprocessing how;

private:
    ov::InferRequest request_;
    long max_side_ = 0;  // pixels, of an engine that takes any size; 0: the engine takes the network's size
};

// Return a path with the escapes of labels.txt: on one line, without tabs.
std::string on_one_line(const std::string& path) {
    static const std::string special = "\\\t\n\r";
    std::string written;
    for (const char letter : path) {
        const size_t place = special.find(letter);
        if (place == std::string::npos) {
            written += letter;
        } else {
            written += '\\';
            written += "\\tnr"[place];
        }
    }
    return written;
}

void classify(Classifier& classifier, const std::string& path, const Options& options) {
    const Image pixels = classifier.prepared(read_ppm(bytes_of(path), path), path);
    if (!options.pixels.empty()) write_ppm(pixels, options.pixels);
    const std::vector<double> scores = classifier.scores(pixels, path);
    std::vector<size_t> best(scores.size());
    std::iota(best.begin(), best.end(), 0);
    std::stable_sort(best.begin(), best.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
    best.resize(std::min(options.top, best.size()));
    for (size_t number : best)
        std::printf("%s\t%zu\t%s\t%.6f\n", on_one_line(path).c_str(), number, classifier.names[number].c_str(),
                    scores[number]);
}

int main(int count, char** words) try {
    const std::vector<std::string> arguments(words + 1, words + count);
    if (std::find(arguments.begin(), arguments.end(), "--help") != arguments.end()) {
        std::cout << USAGE;
        return 0;
    }
    const Options options = parsed(arguments);
    Classifier classifier(options, model_of(options));
    int code = 0;
    for (const std::string& path : options.images) {
        try {
            classify(classifier, path, options);
        } catch (const Unusable& fault) {  // a fault of one image does not stop the others
            std::cerr << "classify: " << fault.what() << "\n";
            code = 2;
        }
    }
    return code;
} catch (const std::exception& fault) {
    std::cerr << "classify: " << fault.what() << "\n";
    return 2;
}
