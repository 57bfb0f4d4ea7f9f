// Options of an image to be made: rbd_image_options_t of a JavaScript object.
#pragma once
#include "runtime/bind.h"

namespace cephkit {

class ImageOptions {
public:
    ImageOptions() { rbd_image_options_create(&options_); }
    ImageOptions(const ImageOptions&) = delete;
    ~ImageOptions() { rbd_image_options_destroy(options_); }
    operator rbd_image_options_t() const { return options_; }

    void Set(int option, const std::string& value) {
        rbd_image_options_set_string(options_, option, value.c_str());
    }
    void Set(int option, uint64_t value) { rbd_image_options_set_uint64(options_, option, value); }

private:
    rbd_image_options_t options_;
};

// { order: 22, dataPool: 'fast' }: what is absent is librbd's own default.
template <>
struct Parameter<ImageOptions*> {
    using Stored = std::unique_ptr<ImageOptions>;

    static Stored Take(Arguments& arguments) {
        static const std::map<std::string, int> numbers = {
            {"format", RBD_IMAGE_OPTION_FORMAT},
            {"features", RBD_IMAGE_OPTION_FEATURES},
            {"order", RBD_IMAGE_OPTION_ORDER},
            {"stripeUnit", RBD_IMAGE_OPTION_STRIPE_UNIT},
            {"stripeCount", RBD_IMAGE_OPTION_STRIPE_COUNT},
            {"flatten", RBD_IMAGE_OPTION_FLATTEN},
            {"cloneFormat", RBD_IMAGE_OPTION_CLONE_FORMAT},
        };
        const auto value = arguments.Next();
        if (!value.IsObject()) throw arguments.Expected("an object");
        const auto object = value.As<Napi::Object>();
        const auto names = object.GetPropertyNames();
        auto options = std::make_unique<ImageOptions>();
        for (uint32_t i = 0; i < names.Length(); i++) {
            const std::string name = names.Get(i).As<Napi::String>();
            const Napi::Value member = object.Get(name);
            const auto number = numbers.find(name);
            if (number != numbers.end() && member.IsNumber()) {
                options->Set(number->second, static_cast<uint64_t>(member.As<Napi::Number>().Int64Value()));
            } else if (name == "dataPool") {
                options->Set(RBD_IMAGE_OPTION_DATA_POOL, ToCString(arguments, member));
            } else {
                throw arguments.Expected("an object of image options");
            }
        }
        return options;
    }

    static ImageOptions* Pass(const Stored& stored) { return stored.get(); }
};

}  // namespace cephkit
