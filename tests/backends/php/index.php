<?php
// A little application with plain PHP sessions: it runs as it is, with or without coatroom in front.
session_start();

function text(string $text, string $type = 'text/plain'): void
{
    header("Content-Type: $type; charset=utf-8");
    echo $text, "\n";
}

function home(): void { header('Location: /', true, 303); }

/** Parallel hits are all to count: a function that sees to that is better than an assignment. */
function hit(): int
{
    return function_exists('coatroom_increment')
        ? coatroom_increment('hits')
        : $_SESSION['hits'] = ($_SESSION['hits'] ?? 0) + 1;
}

$route = str_replace('HEAD', 'GET', $_SERVER['REQUEST_METHOD']) . ' ' . strtok($_SERVER['REQUEST_URI'], '?');
if ($route === 'GET /slow') {
    usleep(1000 * (int) ($_GET['ms'] ?? 0));
    $route = isset($_GET['then']) ? "POST /$_GET[then]" : 'GET /';
}
switch ($route) {
    case 'GET /':
        $cart = json_encode($_SESSION['cart'] ?? [], JSON_UNESCAPED_SLASHES);
        text(sprintf('user=%s visits=%d cart=%s', rawurlencode($_SESSION['user_id'] ?? '-'), $_SESSION['visits'] ?? 0, $cart)
            . "\nhits=" . ($_SESSION['hits'] ?? 0));
        break;
    case 'POST /login':
        session_regenerate_id(true);
        $_SESSION['user_id'] = $_REQUEST['user'] ?? 'nobody';
        home();
        break;
    case 'POST /logout':
        session_destroy();
        home();
        break;
    case 'POST /cart/add':
        $_SESSION['cart'][] = $_REQUEST['item'] ?? 'nothing';
        home();
        break;
    case 'POST /visit':
        $_SESSION['visits'] = ($_SESSION['visits'] ?? 0) + 1;
        text("visits=$_SESSION[visits]");
        break;
    case 'GET /count':
    case 'POST /count':
        text('hits=' . hit());
        break;
    case 'GET /headers':
        $seen = array_filter($_SERVER, fn ($name) => str_starts_with($name, 'HTTP_'), ARRAY_FILTER_USE_KEY);
        text(json_encode($seen, JSON_INVALID_UTF8_SUBSTITUTE), 'application/json');
        break;
    default:
        http_response_code(404);
        text('not found');
}
