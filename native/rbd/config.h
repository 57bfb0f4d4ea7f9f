// The effective rbd settings of a pool or an image, and where each comes from.
#pragma once
#include <rbd/librbd.h>

#include "runtime/list.h"

namespace cephkit {

// `list` is rbd_config_pool_list or rbd_config_image_list, `cleanup` the function that belongs to it.
template <typename List, typename Free>
Array ListConfig(const char* syscall, List list, Free free) {
    auto options = cephkit::List<rbd_config_option_t>(syscall, 128, list);
    const Cleanup cleanup([&] { free(options.data(), static_cast<int>(options.size())); });
    static const char* const sources[] = {"config", "pool", "image"};
    Array result;
    for (const auto& option : options) {
        result.push_back(
            Object{{"name", option.name}, {"value", option.value}, {"source", sources[option.source]}});
    }
    return result;
}

// rbd_metadata_list and rbd_pool_metadata_list: one page, as [key, value] pairs.
template <typename Call>
Array ListMetadata(const char* syscall, Call call) {
    size_t keys_size = 4096, values_size = 16384;
    for (;;) {
        std::vector<char> keys(keys_size), values(values_size);
        const int result = call(keys.data(), &keys_size, values.data(), &values_size);
        if (result == -ERANGE) continue;  // the sizes now say how much it takes
        Check(syscall, result);
        Array pairs;
        const char *key = keys.data(), *value = values.data();
        while (key < keys.data() + keys_size) {
            pairs.push_back(Array{key, value});
            key += strlen(key) + 1;
            value += strlen(value) + 1;
        }
        return pairs;
    }
}

// One value of metadata, which may be long.
template <typename Call>
std::string GetMetadata(const char* syscall, Call call) {
    const auto value =
        List<char>(syscall, size_t{1024}, [&](char* buffer, size_t* size) { return call(buffer, size); });
    return std::string(value.data(), strnlen(value.data(), value.size()));
}

}  // namespace cephkit
