// similar.cpp - which of some photographs resemble the first: cosine similarity of their embeddings, from C++17.
//
// The C API needs no wrapper in C++: a unique_ptr per object frees it, one function turns a status into an exception.
#include <dla/dla.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <vector>

namespace
{

struct release {
    void operator()(dla_model *model) const { dla_model_close(model); }
    void operator()(dla_session *session) const { dla_session_destroy(session); }
    void operator()(dla_image *image) const { dla_image_destroy(image); }
};
template <class T> using owned = std::unique_ptr<T, release>;

void check(dla_status status)
{
    if (status != DLA_OK)
        throw std::runtime_error(dla_error_message());
}

class embedder
{
  public:
    embedder()
    {
        dla_model *new_model = nullptr;
        check(dla_model_open(nullptr, &new_model));
        model.reset(new_model);

        static const char *const names[] = {"global_pool"};   // the pooled features that the classifier sees
        dla_session_options options = DLA_SESSION_OPTIONS_INIT;
        options.features = names;
        options.feature_count = 1;
        dla_session *new_session = nullptr;
        check(dla_session_create(model.get(), &options, &new_session));
        session.reset(new_session);

        int shape[4];
        dla_session_output_shape(session.get(), 0, shape);
        length = static_cast<std::size_t>(shape[1]);
    }

    // An embedding of length 1.
    std::vector<float> operator()(const char *path)
    {
        dla_image *new_image = nullptr;
        check(dla_image_read(path, nullptr, &new_image));
        owned<dla_image> image(new_image);

        const dla_preprocessing *preprocessing = dla_model_preprocessing(model.get());
        std::vector<float> input(3 * static_cast<std::size_t>(preprocessing->size) * static_cast<std::size_t>(preprocessing->size));
        check(dla_image_preprocess(image.get(), preprocessing, DLA_LAYOUT_NCHW, input.data()));
        std::vector<float> embedding(length);
        float *const outputs[] = {embedding.data()};
        check(dla_session_run(session.get(), DLA_LAYOUT_NCHW, input.data(), outputs));

        double sum = 0;
        for (float x : embedding)
            sum += static_cast<double>(x) * x;
        for (float &x : embedding)
            x = static_cast<float>(x / std::sqrt(sum));
        return embedding;
    }

  private:
    owned<dla_model> model;       // before the session, which it must outlive
    owned<dla_session> session;
    std::size_t length = 0;
};

}   // namespace

int main(int argc, char **argv)
{
    if (argc < 3) {
        std::fprintf(stderr, "usage: similar PHOTO OTHER...\n");
        return 2;
    }
    try {
        embedder embed;
        const std::vector<float> first = embed(argv[1]);
        for (int i = 2; i < argc; i++) {
            const std::vector<float> other = embed(argv[i]);
            double product = 0;
            for (std::size_t k = 0; k < first.size(); k++)
                product += static_cast<double>(first[k]) * other[k];
            std::printf("%.3f  %s\n", product, argv[i]);
        }
    } catch (const std::exception &failure) {
        std::fprintf(stderr, "%s\n", failure.what());
        return 1;
    }
    return 0;
}
